from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import pytest

from edgeq.drift.monitor import LEAST_FRAMES, DriftMonitor
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.state import DriftState
from edgeq.drift.stream import FrameCounts, Stream
from tests.drift.streams import BRIGHTNESS, IMAGE, PIXELS, counted, frames_of, reference_of

DARK = 0.5


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return reference_of(128)


def monitor_of(reference: DriftReference, **options: float) -> DriftMonitor:
    return DriftMonitor(reference, DriftOptions(**options))  # type: ignore[arg-type]


def shown(monitor: DriftMonitor, frames: Iterable[FrameCounts]) -> DriftState:
    for frame in frames:
        monitor.add(frame)
    return monitor.check()


# ---- false alarms and true ones


def test_windows_without_drift_seldom_alarm():
    alarms = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        monitor = monitor_of(reference_of(48, seed), window=50, psi=1e-9)
        alarms += shown(monitor, frames_of(draw, 100)).active
    assert alarms <= 2  # 1 in 100 is the bound: more than 2 of 20 come once in 1,000 runs


def test_a_fixed_psi_would_alarm_without_any_drift():
    draw = np.random.default_rng(3)
    state = shown(monitor_of(reference_of(16), window=10, psi=0.05), frames_of(draw, 30))
    image = state.tensors[0]
    assert image.psi > 0.05
    assert not state.active
    assert image.threshold > image.psi


def test_images_half_as_bright_are_drift(reference):
    monitor = monitor_of(reference, window=100)
    draw = np.random.default_rng(1)
    assert not shown(monitor, frames_of(draw, 200)).active
    state = shown(monitor, frames_of(draw, 60, gain=DARK))
    assert state.active
    assert state.reason.startswith("input 'image': darker, ")
    assert state.unfit == ""
    assert [tensor.tensor for tensor in state.tensors if tensor.active][:1] == ["image"]


def test_other_classes_are_drift_where_the_image_is_as_before(reference):
    draw = np.random.default_rng(1)
    state = shown(monitor_of(reference, window=100), frames_of(draw, 300, classes=2))
    assert state.reason.startswith("output 'probs': other classes, JS distance ")
    assert [tensor.tensor for tensor in state.tensors if tensor.active] == ["probs/class"]


def test_a_rail_that_fills_is_drift_and_told_as_such():
    """One value in twenty: a fourth of the PSI that is asked for, and ruin for the scale."""
    conv = Stream("conv_12", "activation", "conv_12", -1.0, 1.0)
    calm = np.zeros(256, np.int32)
    calm[118:138] = 50
    clipped = calm.copy()
    clipped[255] = 50
    reference = DriftReference.from_frames([conv], [{"conv_12": calm}] * 128)
    state = shown(monitor_of(reference, psi=5.0), [{"conv_12": clipped}] * 60)
    assert state.reason == "conv_12 saturates 4.8 % against 0.0 %"


def test_the_configured_psi_is_the_least_that_alarms(reference):
    def is_drift(psi: float) -> bool:
        dark = frames_of(np.random.default_rng(1), 300, gain=0.9)
        return shown(monitor_of(reference, window=100, psi=psi), dark).active

    assert is_drift(0.001)
    assert not is_drift(20.0)


def test_the_figures_are_the_reference_s_and_the_window_s(reference):
    state = shown(monitor_of(reference, window=100), frames_of(np.random.default_rng(1), 100))
    image, brightness, classes = state.tensors
    assert image.kind == "input"
    assert image.value == image.psi
    total = reference.counts["image"].sum()
    assert image.low_reference == pytest.approx(reference.counts["image"][:, 0].sum() / total)
    assert brightness.statistic == "wasserstein_ratio"
    assert brightness.value == brightness.wasserstein_ratio
    assert classes.ks_ratio is None
    assert classes.low_ratio == 0.0
    assert state.frames == max(tensor.frames for tensor in state.tensors)


# ---- window and hysteresis


def test_a_window_of_few_frames_never_alarms(reference):
    dark = frames_of(np.random.default_rng(1), LEAST_FRAMES + 1, gain=0.2)
    monitor = monitor_of(reference, window=1000)
    state = shown(monitor, dark[: LEAST_FRAMES - 1])
    assert (state.active, state.reason) == (False, "")
    assert state.tensors[0].psi > state.tensors[0].threshold
    assert shown(monitor, dark[LEAST_FRAMES - 1 :]).active


def test_a_small_window_need_only_be_nearly_full(reference):
    dark = frames_of(np.random.default_rng(1), 30, gain=0.2)
    assert shown(monitor_of(reference, window=10), dark).active


def test_an_empty_window_has_nothing_to_tell(reference):
    state = monitor_of(reference).check()
    assert (state.active, state.frames, state.tensors) == (False, 0.0, ())


def test_drift_ends_below_a_share_of_its_threshold_only(reference):
    draw = np.random.default_rng(1)
    monitor = monitor_of(reference, window=100)
    assert shown(monitor, frames_of(draw, 200, gain=0.8)).active
    was_over = False
    for frame in frames_of(draw, 600):
        state = shown(monitor, [frame])
        over = any(tensor.excess > 1.0 for tensor in state.tensors)
        was_over |= not over and state.active
        if not state.active:
            break
    assert was_over
    assert not state.active
    assert all(tensor.excess <= 0.8 for tensor in state.tensors)


def test_each_stream_counts_its_own_frames(reference):
    monitor = monitor_of(reference, window=100)
    for number, frame in enumerate(frames_of(np.random.default_rng(1), 100)):
        seldom = number % 10 == 0
        monitor.add({n: c for n, c in frame.items() if seldom or n != "probs/class"})
    frames = {tensor.tensor: tensor.frames for tensor in monitor.check().tensors}
    assert frames["probs/class"] < 12 < frames["image"]


def test_what_the_reference_does_not_have_is_left_out(reference):
    empty = np.zeros(256, np.int32)
    state = shown(monitor_of(reference), [{"other": counted(1), "image": empty}])
    assert state.tensors == ()


def test_frames_that_hang_together_do_not_alarm_as_so_many_would(reference):
    """A camera that shows each scene for 20 frames: 10 scenes are not 200 frames."""

    def alarms(monitor: DriftMonitor, seed: int) -> int:
        found = 0
        for frame in frames_of(np.random.default_rng(seed), 40):
            for _ in range(20):
                monitor.add(frame)
            found += monitor.check().active
        return found

    assert sum(alarms(monitor_of(reference, window=200), seed) for seed in range(5)) <= 4


# ---- the frames' health


def test_a_stuck_camera_is_active_and_unfit(reference):
    monitor = monitor_of(reference)
    (frame,) = frames_of(np.random.default_rng(1), 1)
    for _ in range(LEAST_FRAMES + 10):
        monitor.add(frame)
        monitor.add_health({"image/stuck": True, "image/too_dark": False})
    state = monitor.check()
    assert state.active
    assert state.unfit.endswith("as of a stuck camera")
    assert state.reason.startswith(state.unfit)
    assert state.health == {"image/stuck": 1.0, "image/too_dark": 0.0}


def test_a_few_complaints_are_counted_and_no_more(reference):
    monitor = monitor_of(reference)
    for number in range(100):
        monitor.add_health({"image/stuck": number % 2 == 0})
    state = monitor.check()
    assert state.health["image/stuck"] == pytest.approx(0.5, abs=0.02)
    assert not state.active


# ---- over a restart, and beside others


def test_a_restored_monitor_goes_on_where_it_was(reference):
    monitor = monitor_of(reference, window=100)
    monitor.add_health({"image/stuck": True})
    state = shown(monitor, frames_of(np.random.default_rng(1), 200, gain=0.7))
    again = monitor_of(reference, window=100)
    assert again.restore(monitor.to_npz())
    assert again.check() == state
    assert state.active
    frame = frames_of(np.random.default_rng(2), 1)
    assert shown(again, frame) == shown(monitor, frame)


def test_what_is_of_another_reference_or_damaged_is_refused_and_changes_nothing(reference):
    monitor = monitor_of(reference)
    state = shown(monitor, frames_of(np.random.default_rng(1), 50))
    kept = monitor.to_npz()
    other = monitor_of(reference_of(128, seed=9))
    assert not other.restore(kept)
    for damaged in (b"", b"PK\x05\x06", kept[:-100], kept[:200] + b"\xff" * 50 + kept[250:]):
        assert not monitor.restore(damaged)
    assert monitor.check() == state


def test_two_monitors_merged_are_one_that_saw_both(reference):
    draw = np.random.default_rng(1)
    one, other = (monitor_of(reference, window=200) for _ in range(2))
    shown(one, frames_of(draw, 100))
    dark = frames_of(draw, 100, gain=DARK)
    shown(other, dark)
    before = one.check()
    one.merge(other.windows())
    state = one.check()
    assert state.active
    assert state.frames > before.frames


def test_a_reading_thread_sees_whole_frames(reference):
    monitor = monitor_of(reference, window=20)
    frames = frames_of(np.random.default_rng(1), 200)
    stop = threading.Event()
    seen: list[DriftState] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(monitor.check())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        shown(monitor, frames)
    finally:
        stop.set()
        reader.join(timeout=30)
    assert not reader.is_alive()
    for state in seen:
        counts = {tensor.frames for tensor in state.tensors if tensor.kind != "scalar"}
        assert len(state.tensors) in (0, 3)
        assert all(count >= 1.0 for count in counts)


def test_a_constant_reference_bounds_what_differs():
    flat = np.zeros(256, np.int32)
    flat[7] = PIXELS
    frames = [{"image": flat, "image/brightness": counted(7)}] * 64
    reference = DriftReference.from_frames([IMAGE, BRIGHTNESS], frames)
    monitor = monitor_of(reference)
    assert not shown(monitor, frames).active
    assert shown(monitor, frames_of(np.random.default_rng(1), 50)).active
