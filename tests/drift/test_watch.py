"""Frames shown to the watch -> state, faults, and what survives a restart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.drift.activations import Shown, Tapped
from edgeq.drift.kept import from_npz, to_npz
from edgeq.drift.options import DriftOptions
from edgeq.drift.watch import DUTY, StreamWatch, Watched
from edgeq.errors import DriftError, EdgeqError
from tests.drift.conftest import Arrays, Digits

WINDOW = 40
OPTIONS = DriftOptions(window=WINDOW, activation_interval_s=1e-6)


class Timed(StreamWatch):
    """A watch that is shown a frame every so often, by a clock that stands still in between."""

    def __init__(self, watched: Watched, options: DriftOptions, every_s: float = 1.0) -> None:
        self.now, self.every_s = 100.0, every_s
        super().__init__(watched, options, clock=lambda: self.now)

    def see(self, inputs: Arrays, outputs: Arrays) -> None:
        self.now += self.every_s
        super().see(inputs, outputs)


def watch_of(digits: Digits, **changes: float) -> Timed:
    return Timed(digits.watched, replace(OPTIONS, **changes))


def show(watch: StreamWatch, digits: Digits, factor: float = 1.0, most: int = 64) -> None:
    for frame in digits.frames[:most]:
        changed = {"image": frame["image"] * np.float32(factor)}
        watch.see(changed, digits.answer(changed))


def test_frames_of_the_reference_are_no_drift(int8_digits: Digits):
    watch = watch_of(int8_digits)
    show(watch, int8_digits)
    state = watch.check()
    assert not state.active, state.reason
    assert {t.kind for t in state.tensors} == {
        "input", "output", "activation", "scalar", "classes"
    }  # fmt: skip
    assert all(t.frames == pytest.approx(WINDOW, rel=0.2) for t in state.tensors)


def test_dark_frames_are_drift_with_the_reason_in_words(int8_digits: Digits):
    watch = watch_of(int8_digits)
    show(watch, int8_digits, 0.5)
    state = watch.check()
    assert state.active
    assert "darker" in state.reason
    assert "'image'" in state.reason
    (image,) = (tensor for tensor in state.tensors if tensor.tensor == "image")
    assert image.scale_ratio == pytest.approx(0.5, abs=0.03)
    assert watch.health()[0].faults["too_dark"] > 10


def test_bright_frames_saturate_the_activations_behind_them(int8_digits: Digits):
    watch = watch_of(int8_digits)
    show(watch, int8_digits, 3.0)
    state = watch.check()
    assert state.active
    rails = {t.tensor: t.high_ratio - t.high_reference for t in state.tensors}
    activations = [t.tensor for t in state.tensors if t.kind == "activation"]
    assert max(rails[name] for name in activations) > 0.001
    assert rails["image"] > 0.1


@pytest.mark.parametrize(
    ("took_s", "interval_s", "least_gap_s"), [(0.01, 0.5, 0.01 / DUTY), (0.0, 0.5, 0.5)]
)
def test_activations_take_their_share_of_the_time_and_no_more(
    int8_digits: Digits,
    monkeypatch: pytest.MonkeyPatch,
    took_s: float,
    interval_s: float,
    least_gap_s: float,
):
    options = replace(OPTIONS, activation_interval_s=interval_s)
    watch, runs = Timed(int8_digits.watched, options, every_s=0.02), []

    def run(tapped: Tapped, inputs: Arrays) -> Shown:
        runs.append(watch.now)
        watch.now += took_s
        return Shown({}, {})

    monkeypatch.setattr(Tapped, "run", run)
    for _ in range(400):
        watch.see(int8_digits.frames[0], int8_digits.answers[0])
    gaps = np.diff(runs)
    assert len(gaps) >= 3
    assert gaps.min() >= least_gap_s
    assert gaps.max() <= least_gap_s + 0.05


def test_without_an_interval_or_a_model_no_activation_is_looked_at(int8_digits: Digits):
    off = watch_of(int8_digits, activation_interval_s=0.0)
    watched = replace(int8_digits.watched, int8=None)
    without = Timed(watched, OPTIONS)
    for watch in (off, without):
        show(watch, int8_digits, most=3)
        assert "activation" not in {t.kind for t in watch.check().tensors}
        assert watch.problem == ""


def test_a_frame_that_cannot_run_costs_the_activations_only(int8_digits: Digits):
    watch = watch_of(int8_digits)
    frame = {"image": np.zeros((1, 4, 4, 1), "f4")}  # a shape that the model does not take
    watch.see(frame, {})
    assert "shape" in watch.problem
    show(watch, int8_digits, most=3)
    assert "input" in {t.kind for t in watch.check().tensors}


def test_a_stuck_camera_is_in_the_health_and_the_state(int8_digits: Digits):
    watch = watch_of(int8_digits)
    frame, answer = int8_digits.frames[0], int8_digits.answers[0]
    for _ in range(60):
        watch.see({"image": frame["image"].copy()}, answer)
    (health,) = watch.health()
    assert (health.identical_frames, health.faults["stuck"]) == (59, 59)
    assert health.identical_s == 59.0
    assert watch.check().unfit
    assert watch.take_faults()["image", "stuck"] == 59
    assert watch.take_faults()["image", "stuck"] == 0


# ---- over a restart


def test_windows_drift_and_faults_are_there_again(int8_digits: Digits):
    before, after = watch_of(int8_digits), watch_of(int8_digits)
    show(before, int8_digits, 0.5)
    expected = before.check()
    assert after.restore(before.to_npz())
    assert after.check() == expected
    assert after.health()[0].faults == before.health()[0].faults
    assert set(after.take_faults().values()) == {0}  # told of before the restart


def test_another_reference_is_not_taken_up(int8_digits: Digits):
    before = watch_of(int8_digits)
    show(before, int8_digits, 0.5)
    kept = from_npz(before.to_npz())
    after = watch_of(int8_digits)
    assert not after.restore(to_npz(replace(kept, reference="0" * 64)))
    assert after.check().tensors == ()


@pytest.mark.parametrize("cut", [0, 10, 400, -200, -1])
def test_a_damaged_file_is_refused_and_changes_nothing(int8_digits: Digits, cut: int):
    before, after = watch_of(int8_digits), watch_of(int8_digits)
    show(before, int8_digits, 0.5, most=5)
    with pytest.raises(EdgeqError):
        after.restore(before.to_npz()[:cut])
    assert not after.check().active


def test_a_part_that_is_damaged_is_refused(int8_digits: Digits):
    watch = watch_of(int8_digits)
    kept = from_npz(watch.to_npz())
    for broken in (replace(kept, monitor=b"PK"), replace(kept, scales=b"PK")):
        with pytest.raises(EdgeqError):
            watch_of(int8_digits).restore(to_npz(broken))


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch, int8_digits: Digits):
    monkeypatch.setattr("edgeq.drift.kept.FORMAT", 2)
    content = watch_of(int8_digits).to_npz()
    monkeypatch.undo()
    with pytest.raises(DriftError, match="format is 2, not 1"):
        from_npz(content)
