"""A model's tensors as streams: what is counted is what the INT8 engine itself computes with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.drift.stream import CODES, Stream
from edgeq.drift.streams import (
    BRIGHTNESS,
    CONTRAST,
    MOST_VALUES,
    SHARPNESS,
    StreamCounter,
    are_scores,
    class_stream,
    count_values,
    grids_of,
    is_image,
    scalar_stream,
)
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap
from tests.drift.conftest import Digits

UNIT = Stream("x", "input", "x", 0.0, 1.0)


def test_float_inputs_are_counted_in_the_codes_of_the_engines_own_quantize(int8_digits: Digits):
    int8, (frame, *_) = int8_digits.int8, int8_digits.frames
    reader = int8.operators[int8.consumers()[int8.inputs[0]][0]]
    tapped, _ = tap(int8, indices(reader.outputs))
    noisy = {"image": frame["image"] * np.float32(1.1) + np.float32(0.37)}
    (codes,) = Runner(tapped.to_bytes()).run(noisy).values()
    inputs, _ = grids_of(int8, {})
    counted = count_values(noisy["image"], Stream("image", "input", "image", *inputs["image"]))
    assert np.array_equal(counted.codes, (codes.astype(np.int16) + 128).astype(np.uint8))


def test_outputs_are_counted_without_loss(int8_digits: Digits):
    _, outputs = grids_of(int8_digits.int8, {})
    stream = Stream("scores", "output", "scores", *outputs["scores"])
    for answer in int8_digits.answers[:20]:
        codes = count_values(answer["scores"], stream).codes
        assert np.array_equal(stream.values[codes].astype(np.float32), answer["scores"])


@given(st.floats(-3.0, 3.0, width=32))
def test_what_lies_beyond_the_grid_is_counted_at_its_end(value: float):
    code = int(count_values(np.full(1, value, np.float32), UNIT).codes[0])
    assert abs(code - np.clip(value, 0.0, 1.0) * 255) <= 0.5 + 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_left_out_and_infinity_is_at_a_rail(bad: float):
    counts = count_values(np.array([0.5, bad, 0.5], np.float32), UNIT).counts
    assert counts[128] == 2
    assert counts.sum() == (2 if np.isnan(bad) else 3)
    assert (counts[255], counts[0]) == (int(bad == np.inf), int(bad == -np.inf))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4"])
def test_integers_are_counted_as_they_are(dtype: str):
    stream = Stream("x", "input", "x", *((-128.0, 127.0) if dtype == "i1" else (0.0, 255.0)))
    values = np.array([0, 5, 5, 127], dtype)
    counts = count_values(values, stream).counts
    first = 128 if dtype == "i1" else 0
    assert counts[[first, first + 5, first + 127]].tolist() == [1, 2, 1]


def test_of_a_large_tensor_evenly_spread_values_are_counted():
    image = np.random.default_rng(0).random((1, 1024, 1024, 3), dtype=np.float32)
    counted = count_values(image, UNIT)
    assert counted.codes.shape[2:] == (1024, 3)  # whole rows: gradients stay
    flat = count_values(image.reshape(1, -1), UNIT)
    for part in (counted.counts, flat.counts):
        assert 0.9 * MOST_VALUES < part.sum() < 1.1 * MOST_VALUES
        assert np.ptp(part[1:-1]) < 0.3 * part.mean()


@pytest.mark.parametrize(
    ("shape", "is_one"),
    [((1, 96, 96, 3), True), ((4, 8, 8, 1), True), ((1, 49, 10, 1), False),
     ((1, 16, 16, 8), False), ((1, 640), False), ((1, 4, 4, 3), False)],
)  # fmt: skip
def test_an_image_has_two_sides_and_colours(shape: tuple[int, ...], is_one: bool):
    assert is_image(shape) is is_one


def test_of_an_image_brightness_contrast_and_sharpness_are_measured():
    board = np.indices((16, 16)).sum(axis=0)[None, :, :, None] % 2
    counter = StreamCounter([UNIT])
    flat, scalars = {"x": np.full((1, 16, 16, 1), 0.25, "f4")}, (BRIGHTNESS, CONTRAST, SHARPNESS)
    _, of_flat = counter.measure(flat, {})
    _, of_board = counter.measure({"x": board.astype("f4")}, {})
    assert [of_flat[f"x/{word}"] for word in scalars] == pytest.approx([0.25, 0, 0], abs=0.002)
    assert [of_board[f"x/{word}"] for word in scalars] == pytest.approx([0.5, 0.5, 1.0])


def test_of_scores_class_confidence_margin_and_entropy_are_measured():
    streams = [
        class_stream("p"),
        *(scalar_stream(f"p/{word}", [0.0, 1.0]) for word in ("confidence", "margin", "entropy")),
    ]
    scores = {"p": np.array([[0.1, 0.7, 0.2]], "f4")}
    counts, scalars = StreamCounter(streams).measure({}, scores)
    assert np.flatnonzero(counts["p/class"]).tolist() == [1]
    assert scalars["p/confidence"] == pytest.approx(0.7)
    assert scalars["p/margin"] == pytest.approx(0.5)
    assert scalars["p/entropy"] == pytest.approx(0.8018, abs=1e-4)
    counted = StreamCounter(streams).count({}, scores)
    assert set(counted) == {"p/class", "p/confidence", "p/margin", "p/entropy"}
    assert all(row.sum() == 1 and row.shape == (CODES,) for row in counted.values())


def test_an_index_is_counted_as_a_class():
    found = StreamCounter([class_stream("i")]).count({}, {"i": np.array([3, 3, 259], np.int64)})
    assert found["i/class"][3] == 3
    assert found["i/class"].sum() == 3


@pytest.mark.parametrize(
    ("values", "is_one"),
    [(np.array([[0.25, 0.75]], "f4"), True), (np.array([[-1.0, 2.0]], "f4"), False),
     (np.array([[0.25, 0.25]], "f4"), False), (np.array([0.5, 0.5], "f4"), False),
     (np.array([[-128, 127]], "i1"), True), (np.array([[0, 255]], "u1"), True),
     (np.array([[0, 1]], "i4"), False), (np.array([[1.0]], "f4"), False)],
)  # fmt: skip
def test_scores_are_shares_that_add_up_to_one(values: np.ndarray, is_one: bool):
    assert are_scores(values) is is_one


def test_a_scalars_range_is_the_references_and_its_span_around_it():
    stream = scalar_stream("a/b:0/brightness", [0.4, 0.6])
    assert (stream.tensor, stream.kind) == ("a/b:0", "scalar")
    assert (stream.lo, stream.hi) == pytest.approx((0.2, 0.8))
    assert scalar_stream("x/contrast", [0.0]).hi > 0


def test_a_border_without_a_grid_takes_the_calibrated_range(int8_digits: Digits, digits_model):
    inputs, outputs = grids_of(Model.from_bytes(digits_model), {"image": (0.0, 16.0)})
    assert (inputs, outputs) == ({"image": (0.0, 16.0)}, {})
