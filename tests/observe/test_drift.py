from __future__ import annotations

import math
import threading
from dataclasses import asdict

import numpy as np
import pytest

from edgeq.observe.drift import (
    HYSTERESIS,
    RATIO_LIMIT,
    REFERENCE_FRAMES,
    VALUES_PER_FRAME,
    DriftMonitor,
    DriftOptions,
    DriftReference,
    DriftState,
)

Frames = list[dict[str, np.ndarray]]


def frames_of(values) -> Frames:
    return [{"x": np.asarray(row)} for row in values]


def scenes(draw: np.random.Generator, count: int) -> Frames:
    """Frames that differ in brightness and contrast, as those of a camera do."""
    brightness = draw.normal(0, 0.2, (count, 1))
    contrast = np.exp(draw.normal(0, 0.2, (count, 1)))
    pixels = draw.normal(0, 1, (count, 64)) * contrast + brightness
    return frames_of(pixels.astype(np.float32))


def reference_of(frames: Frames) -> DriftReference:
    return DriftReference.from_frames(lambda: frames)


def monitor_of(frames: Frames, **options) -> DriftMonitor:
    return DriftMonitor(reference_of(frames), DriftOptions(**options))


def check(monitor: DriftMonitor, frames: Frames) -> DriftState:
    for frame in frames:
        monitor.add(frame)
    return monitor.check()


@pytest.fixture(scope="module")
def images(digits) -> Frames:
    with np.load(digits / "digits_samples.npz") as arrays:
        return frames_of(arrays["x"].astype(np.float32))


# ---- false alarms and true ones


@pytest.mark.parametrize(("frames", "window"), [(8, 50), (16, 20), (48, 200), (128, 50)])
def test_windows_without_drift_seldom_alarm(frames, window):
    draw = np.random.default_rng(frames)
    runs = 100
    alarms = 0
    for _ in range(runs):
        monitor = monitor_of(scenes(draw, frames), window=window, psi=1e-9)
        alarms += check(monitor, scenes(draw, window)).active
    assert alarms / runs <= 0.03  # the bound is 0.001; 100 runs cannot show less than 0.01


def test_a_fixed_psi_would_alarm_without_any_drift():
    draw = np.random.default_rng(0)
    state = check(monitor_of(scenes(draw, 16), window=10, psi=0.05), scenes(draw, 10))
    (tensor,) = state.tensors
    assert tensor.psi > 0.05
    assert not state.active
    assert tensor.threshold > tensor.psi


def test_images_half_as_bright_are_drift(images):
    monitor = monitor_of(images[:160], window=100)
    assert not check(monitor, images[160:260]).active
    state = check(monitor, [{"x": frame["x"] * np.float32(0.5)} for frame in images[160:260]])
    assert state.active
    assert state.reason.startswith("input 'x': lower, PSI ")
    assert state.reason.endswith(" at n=100")
    (tensor,) = state.tensors
    assert tensor.scale_ratio == pytest.approx(0.5)
    assert tensor.mean_shift < -0.3


def test_values_beyond_the_calibrated_range_are_counted_and_told(images):
    monitor = monitor_of(images[:160], window=100)
    state = check(monitor, [{"x": frame["x"] * np.float32(2)} for frame in images[160:260]])
    (tensor,) = state.tensors
    assert state.active
    assert 0.1 < tensor.above_ratio < 0.9
    assert tensor.below_ratio == 0.0
    assert "of the values lie outside the calibrated range" in state.reason
    assert "higher" in state.reason


def test_the_configured_psi_is_the_least_that_alarms(images):
    dark = [{"x": frame["x"] * np.float32(0.9)} for frame in images[:100]]
    assert check(monitor_of(images, window=100, psi=0.01), dark).active
    assert not check(monitor_of(images, window=100, psi=50.0), dark).active


# ---- window and hysteresis


def test_a_window_that_is_not_full_never_alarms(images):
    monitor = monitor_of(images[:160], window=100)
    dark = [{"x": frame["x"] * np.float32(0.2)} for frame in images[:99]]
    state = check(monitor, dark)
    assert (state.active, state.frames, state.reason) == (False, 99, "")
    assert state.tensors[0].psi > state.tensors[0].threshold
    assert check(monitor, dark[:1]).active


def test_an_empty_window_has_nothing_to_tell(images):
    assert monitor_of(images[:20]).check() == DriftState(False, 0, "", ())


def test_a_drift_ends_only_clearly_below_its_threshold(images):
    reference = reference_of(images[:160])

    def psi_at(factor: float) -> tuple[Frames, float]:
        live = [{"x": frame["x"] * np.float32(factor)} for frame in images[160:260]]
        state = check(DriftMonitor(reference, DriftOptions(window=100)), live)
        return live, state.tensors[0].psi

    slightly, psi = psi_at(0.9)
    strongly, _ = psi_at(0.5)
    options = DriftOptions(window=100, psi=psi / ((1 + HYSTERESIS) / 2))  # psi: between both levels
    fresh = DriftMonitor(reference, options)
    assert not check(fresh, slightly).active
    was_active = DriftMonitor(reference, options)
    assert check(was_active, strongly).active
    assert check(was_active, slightly).active
    assert not check(was_active, images[160:260]).active


def test_the_window_slides(images):
    monitor = monitor_of(images[:160], window=50)
    check(monitor, [{"x": frame["x"] * np.float32(0.3)} for frame in images[:50]])
    state = check(monitor, images[160:210])
    assert (state.active, state.frames) == (False, 50)


# ---- inputs of every kind


def test_each_of_several_inputs_is_judged_for_itself():
    draw = np.random.default_rng(0)
    normal = [a | {"y": b["x"]} for a, b in zip(scenes(draw, 60), scenes(draw, 60), strict=True)]
    live = [f | {"y": f["y"] + np.float32(2)} for f in normal[:50]]
    monitor = DriftMonitor(reference_of(normal), DriftOptions(window=50))
    state = check(monitor, live)
    by_name = {tensor.tensor: tensor for tensor in state.tensors}
    assert by_name["y"].psi > by_name["y"].threshold
    assert by_name["x"].psi < by_name["x"].threshold
    assert "input 'y'" in state.reason
    assert "input 'x'" not in state.reason


def test_a_constant_input_that_changes_is_drift():
    constant = frames_of(np.ones((20, 4), np.float32))
    monitor = monitor_of(constant, window=10)
    assert not check(monitor, constant[:10]).active
    state = check(monitor, frames_of(np.full((10, 4), 1.5, np.float32)))
    assert state.active
    (tensor,) = state.tensors
    assert (tensor.above_ratio, tensor.mean_shift) == (1.0, RATIO_LIMIT)
    assert all(math.isfinite(v) for v in asdict(tensor).values() if isinstance(v, float))


def test_black_and_white_that_turns_gray_is_drift():
    draw = np.random.default_rng(0)
    masks = frames_of((draw.random((40, 64)) < 0.4) * np.float32(255))
    gray = frames_of(np.full((20, 64), 128, np.float32))
    monitor = monitor_of(masks, window=20)
    assert not check(monitor, masks[:20]).active
    assert check(monitor, gray).active


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.float16, np.float64])
def test_inputs_of_every_numeric_type_are_compared(dtype):
    draw = np.random.default_rng(0)
    normal = frames_of(draw.integers(0, 60, (40, 32)).astype(dtype))
    other = frames_of(draw.integers(50, 110, (20, 32)).astype(dtype))
    monitor = monitor_of(normal, window=20)
    assert not check(monitor, normal[:20]).active
    assert check(monitor, other).active


def test_truth_values_are_compared_and_texts_are_passed_over():
    frames = [{"flag": np.array([True, False]), "text": np.array(["a", "b"])}] * 8
    reference = reference_of(frames)
    assert set(reference.tensors) == {"flag"}
    assert not check(DriftMonitor(reference, DriftOptions(window=8)), frames).active


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_live_frames_that_are_not_finite_do_not_break_the_check(bad, images):
    monitor = monitor_of(images[:160], window=20)
    broken = [{"x": np.full_like(images[0]["x"], bad)} for _ in range(20)]
    state = check(monitor, broken)
    assert state.active  # all of it lies outside
    (tensor,) = state.tensors
    assert tensor.below_ratio + tensor.above_ratio == 1.0
    assert all(math.isfinite(v) for v in asdict(tensor).values() if isinstance(v, float))
    assert not check(monitor, images[160:180]).active


def test_reference_frames_that_are_not_finite_do_not_move_the_range():
    frames = frames_of([[0.0, 1.0], [np.nan, 0.5], [np.inf, 1.0], [0.2, 0.7]])
    reference = reference_of(frames).tensors["x"]
    assert (reference.edges[0], reference.edges[-1]) == (0.0, 1.0)
    assert len(reference.counts) == 4


def test_frames_without_the_input_or_without_values_are_passed_over(images):
    monitor = monitor_of(images[:20], window=20)
    state = check(monitor, [{"other": images[0]["x"]}, {"x": np.zeros((0, 4), np.float32)}])
    assert state.frames == 0


def test_a_reference_without_frames_never_alarms(images):
    monitor = monitor_of([], window=2)
    assert check(monitor, images[:4]) == DriftState(False, 0, "", ())


def test_too_few_reference_frames_never_alarm():
    monitor = monitor_of(frames_of(np.zeros((3, 4), np.float32)), window=4)
    state = check(monitor, frames_of(np.ones((4, 4), np.float32)))
    assert not state.active
    assert state.tensors[0].threshold == math.inf


def test_a_large_input_is_thinned_without_losing_a_channel():
    values = np.zeros((1, 128, 128, 3), np.float32)
    values[..., 1] = 1.0  # a stride of 3 would only ever see one channel
    reference = reference_of([{"x": values}] * 4).tensors["x"]
    assert reference.counts.sum(axis=1).max() <= VALUES_PER_FRAME
    assert reference.moments[0, 2] == pytest.approx(1 / 3, abs=0.01)


# ---- the reference on disk


def test_a_reference_survives_the_disk(images):
    reference = reference_of([f | {"in/put:0": f["x"] * 2} for f in images[:30]])
    again = DriftReference.from_npz(reference.to_npz())
    assert list(again.tensors) == list(reference.tensors)
    for name, tensor in reference.tensors.items():
        for field in ("edges", "counts", "moments"):
            np.testing.assert_array_equal(
                getattr(again.tensors[name], field), getattr(tensor, field)
            )


def test_the_same_frames_give_the_same_bytes(images):
    assert reference_of(images[:30]).to_npz() == reference_of(images[:30]).to_npz()


def test_no_more_frames_are_kept_than_the_bound():
    frames = frames_of(np.random.default_rng(0).random((REFERENCE_FRAMES + 88, 4)))
    assert len(reference_of(frames).tensors["x"].counts) == REFERENCE_FRAMES


def test_bins_hold_about_equal_shares():
    draw = np.random.default_rng(0)
    tensor = reference_of(frames_of(draw.normal(size=(100, 256)).astype(np.float32))).tensors["x"]
    inside = tensor.shares.mean(axis=0)[1:-1]
    assert len(inside) == 20
    assert inside == pytest.approx(np.full(20, 0.05), abs=0.005)


def test_one_thread_may_add_while_another_checks(images):
    monitor = monitor_of(images[:40], window=50)
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            monitor.add(images[0])

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        states = [monitor.check() for _ in range(200)]
    finally:
        stop.set()
        thread.join()
    assert max(state.frames for state in states) <= 50
