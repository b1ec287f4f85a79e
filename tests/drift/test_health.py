"""What is wrong with a frame as such is told, and what the reference had too is not."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.drift.health import FAULTS, InputHealth, healths_of
from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import Stream
from edgeq.drift.streams import StreamCounter, scalar_stream

SHAPE = (1, 16, 16, 1)
UNIT = Stream("x", "input", "x", 0.0, 1.0)
STREAMS = (
    UNIT,
    scalar_stream("x/brightness", [0.3, 0.6]),
    scalar_stream("x/contrast", [0.2, 0.3]),
)
COUNTER = StreamCounter(STREAMS)


def frame(low: float, high: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.uniform(low, high, SHAPE).astype(np.float32)


@pytest.fixture
def health() -> InputHealth:
    """After a reference of brightness 0.4 to 0.6 and a deviation of 0.2 or more."""
    frames = [frame(0.0, 0.8 + 0.01 * n, n) for n in range(20)]
    frames += [frame(0.2, 1.0, 100 + n) for n in range(20)]
    counts = [COUNTER.count({"x": values}, {}) for values in frames]
    return healths_of(DriftReference.from_frames(STREAMS, counts))["x"]


def found(health: InputHealth, values: np.ndarray, now: float = 0.0) -> set[str]:
    complaints = health.look(values, COUNTER.count({"x": values}, {}), now)
    assert set(complaints) == set(FAULTS)
    return {fault for fault, applies in complaints.items() if applies}


BAD = {
    "a blank frame": (np.full(SHAPE, 0.5, "f4"), {"constant", "low_contrast"}),
    "a dark frame": (frame(0.0, 0.3), {"too_dark", "low_contrast"}),
    "a dark frame with contrast": (frame(0.0, 1.0) ** 3, {"too_dark"}),
    "a bright frame": (1.0 - frame(0.0, 1.0) ** 3, {"too_bright"}),
    "a flat frame": (frame(0.45, 0.55), {"low_contrast"}),
    "pixels of 0 to 255": (frame(0.0, 255.0), {"out_of_range", "too_bright", "low_contrast"}),
    "a negative frame": (frame(-1.0, 0.0), {"out_of_range", "too_dark", "low_contrast"}),
    "one lamp": (np.where(np.arange(256).reshape(SHAPE) == 7, 3.0, frame(0.1, 0.9)), set()),
}


@pytest.mark.parametrize("what", BAD)
def test_each_fault_is_told(health: InputHealth, what: str):
    values, faults = BAD[what]
    assert found(health, values.astype("f4")) == faults
    assert {fault for fault, count in health.faults.items() if count} == faults
    assert health.frames == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_told(health: InputHealth, bad: float):
    values = frame(0.1, 0.9)
    values[0, 0, 0, 0] = bad
    assert found(health, values) == {"not_finite"}


def test_frames_like_the_references_are_well(health: InputHealth):
    assert [found(health, frame(0.1, 0.9, seed)) for seed in range(5)] == [set()] * 5


def test_a_stuck_camera_is_told_with_how_long(health: InputHealth):
    values = frame(0.1, 0.9)
    assert found(health, values, 10.0) == set()
    assert [found(health, values.copy(), 11.0 + n) for n in range(3)] == [{"stuck"}] * 3
    assert (health.identical_frames, health.identical_since) == (3, 10.0)
    assert found(health, frame(0.1, 0.9, 1), 20.0) == set()
    assert (health.identical_frames, health.faults["stuck"]) == (0, 3)


def test_features_that_are_no_image_are_neither_dark_nor_flat():
    stream = Stream("x", "input", "x", -1.0, 1.0)
    draw = np.random.default_rng(0)
    rows = [draw.uniform(-1, 1, (1, 40)).astype("f4") for _ in range(8)]
    counter = StreamCounter([stream])
    reference = DriftReference.from_frames([stream], [counter.count({"x": x}, {}) for x in rows])
    health = healths_of(reference)["x"]
    zeros = np.zeros((1, 40), "f4")
    complaints = health.look(zeros, counter.count({"x": zeros}, {}), 0.0)
    assert {fault for fault, applies in complaints.items() if applies} == {"constant"}


def test_integers_are_never_out_of_range(health: InputHealth):
    values = np.arange(256, dtype=np.int8).reshape(SHAPE)
    assert "out_of_range" not in found(health, values)


PICTURE = (
    UNIT,
    scalar_stream("x/brightness", [0.3, 0.6]),
    scalar_stream("x/contrast", [0.2, 0.3]),
    scalar_stream("x/sharpness", [0.05, 0.2]),
)


def picture(seed: int, noise: float = 0.0) -> np.ndarray:
    """A slope with a blot in it."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:16, 0:16] / 15
    slope = 0.7 * (draw.random() * rows + draw.random() * columns)
    blot = 0.5 * np.exp(-20 * ((rows - draw.random()) ** 2 + (columns - draw.random()) ** 2))
    pixels = slope + blot + noise * draw.standard_normal((16, 16))
    return np.clip(pixels, 0, 1).astype("f4").reshape(SHAPE)


def after(frames: list[np.ndarray]) -> InputHealth:
    counter = StreamCounter(PICTURE)
    counts = [counter.count({"x": values}, {}) for values in frames]
    return healths_of(DriftReference.from_frames(PICTURE, counts))["x"]


def is_noise(health: InputHealth, values: np.ndarray) -> bool:
    return health.look(values, StreamCounter(PICTURE).count({"x": values}, {}), 0.0)["noise"]


def test_noise_in_the_place_of_pictures_is_told():
    health = after([picture(seed) for seed in range(20)])
    draw = np.random.default_rng(5)
    evenly, rails = draw.random(SHAPE), draw.integers(0, 2, SHAPE)
    huge = 1e6 * draw.standard_normal(SHAPE)
    for values in (evenly, rails, huge):
        assert is_noise(health, values.astype("f4"))


def test_a_noisy_picture_is_one():
    health = after([picture(seed) for seed in range(20)])
    assert not any(is_noise(health, picture(seed, noise=0.05)) for seed in range(20, 40))


def test_where_the_reference_is_noise_more_of_it_is_none():
    draw = np.random.default_rng(6)
    health = after([draw.random(SHAPE).astype("f4") for _ in range(20)])
    assert not any(is_noise(health, draw.random(SHAPE).astype("f4")) for _ in range(20))


def test_what_is_no_picture_is_never_noise():
    values = np.random.default_rng(7).random((1, 40)).astype("f4")
    stream = (Stream("x", "input", "x", 0.0, 1.0),)
    counter = StreamCounter(stream)
    counts = [counter.count({"x": values}, {})] * 5
    health = healths_of(DriftReference.from_frames(stream, counts))["x"]
    assert not health.look(values, counter.count({"x": values}, {}), 0.0)["noise"]
