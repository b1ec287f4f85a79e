"""The counts that live frames are compared with: which streams, of which frames."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.build import baseline
from edgeq.build.baseline import Evenly, measure_baseline
from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable
from edgeq.drift.activations import choose_activations
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from tests import tiny


@pytest.fixture(scope="module")
def relu() -> Model:
    """A float model: no grid of its own, and nothing to tap."""
    return tiny.one_op_model("RELU", (1, 4))


def rows(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": np.full((1, 4), n, "f4")} for n in range(count)]


@pytest.mark.parametrize(("count", "stride"), [(3, 1), (8, 1), (9, 2), (17, 4), (100, 16)])
def test_items_are_kept_evenly_however_many_come(count: int, stride: int):
    kept: Evenly[int] = Evenly(8)
    for place in range(count):
        if kept.takes(place):
            kept.put(place, place)
    assert list(kept.kept) == list(range(0, count, stride))


def test_a_model_without_grids_is_counted_in_its_calibrated_ranges(relu: Model):
    (name,) = (relu.names()[t] for t in relu.outputs)
    ranges = {"x": (0.0, 16.0), name: (0.0, 16.0)}
    reference = measure_baseline(relu, rows(16), ranges, 1)
    assert {s.name: s.kind for s in reference.streams} == {"x": "input", name: "output"}
    assert reference.counts["x"].shape == (16, 256)


def test_more_frames_than_are_kept_are_thinned_and_activations_more(
    digits_samples, monkeypatch: pytest.MonkeyPatch, int8_model: Model
):
    monkeypatch.setattr(baseline, "REFERENCE_FRAMES", 32)
    monkeypatch.setattr(baseline, "ACTIVATION_FRAMES", 8)
    frames = [sample.inputs for sample in digits_samples]
    reference = measure_baseline(int8_model, frames, {}, 1)
    kinds = {stream.name: stream.kind for stream in reference.streams}
    filled = {name: int(counts.any(axis=1).sum()) for name, counts in reference.counts.items()}
    assert {filled[name] for name, kind in kinds.items() if kind == "activation"} == {8}
    assert {filled[name] for name, kind in kinds.items() if kind != "activation"} == {32}
    first = reference.counts["image"][1]
    assert first.sum() == frames[2]["image"].size  # every second frame


def test_outputs_are_those_of_the_int8_engine(digits_samples, int8_model: Model):
    frames = [sample.inputs for sample in digits_samples[:5]]
    engine = CpuEngine(int8_model.to_bytes(), "cpu-int8", threads=1)
    chosen = [int(engine.infer(frame)["scores"].argmax()) for frame in frames]
    reference = measure_baseline(int8_model, frames, {}, 1)
    assert reference.counts["scores/class"].argmax(axis=1).tolist() == chosen


def test_a_frame_that_the_model_does_not_take_is_left_out(digits_samples, int8_model: Model):
    bad = {"image": np.zeros((1, 4, 4, 1), "f4")}
    frames = [digits_samples[0].inputs, bad, digits_samples[1].inputs]
    assert len(measure_baseline(int8_model, frames, {}, 1).counts["image"]) == 2


def test_a_model_that_runs_but_cannot_show_its_activations_is_watched_without(
    digits_samples, monkeypatch: pytest.MonkeyPatch, int8_model: Model
):
    runner = baseline.Tapped

    def refusing(int8, tensors, **options):
        if tensors:
            raise EngineError("refused")
        return runner(int8, tensors, **options)

    monkeypatch.setattr(baseline, "Tapped", refusing)
    assert choose_activations(int8_model)
    reference = measure_baseline(int8_model, [digits_samples[0].inputs], {}, 1)
    assert "activation" not in {stream.kind for stream in reference.streams}
    assert "output" in {stream.kind for stream in reference.streams}


@pytest.fixture(scope="module")
def int8_model(digits_model, digits_samples) -> Model:
    model = Model.from_bytes(digits_model)
    histograms = collect(model, digits_samples[:8], threads=1).histograms
    return quantize(model, CalibrationTable.from_histograms("", "max", 8, histograms)).model
