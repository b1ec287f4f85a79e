"""Every usable frame is counted whole, every other is named with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq.calibrate.tapped as tapped
from edgeq.calibrate.archive import merge_histograms
from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import CalibrationError, EngineError
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap
from tests.tiny import GraphBuilder, one_op_model, tiny_inputs, tiny_model

ACTIVATIONS = ["image", "conv", "relu", "dw", "pool", "flat", "logits", "scores"]


def tiny_samples(count: int) -> list[Sample]:
    return [Sample(f"s{seed}", tiny_inputs(seed)) for seed in range(count)]


def x_sample(values: Any, id: str = "x", dtype: Any = np.float32) -> Sample:
    return Sample(id, {"x": np.asarray(values, dtype).reshape(1, -1)})


def test_every_input_and_float_activation_is_counted() -> None:
    collection = collect(tiny_model(), tiny_samples(3))
    assert list(collection.histograms) == ACTIVATIONS
    assert (collection.samples, collection.dropped) == (3, ())
    assert collection.histograms["image"].count == 3 * 8 * 8 * 3
    assert collection.histograms["scores"].count == 3 * 4


def test_the_counts_are_those_of_the_tapped_values() -> None:
    model, samples = tiny_model(), tiny_samples(4)
    collection = collect(model, samples)
    tapped, tensors = tap(model)
    runner, names = Runner(tapped.to_bytes()), model.names()
    values = [list(runner.run(sample.inputs).values()) for sample in samples]
    for position, tensor in enumerate(tensors):
        histogram, seen = collection.histograms[names[tensor]], [v[position] for v in values]
        assert histogram.min == min(v.min() for v in seen)
        assert histogram.max == max(v.max() for v in seen)
        assert histogram.count == sum(v.size for v in seen)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_merging_parts_equals_calibrating_once(parts: int) -> None:
    model, samples = tiny_model(), tiny_samples(20)
    at_once = collect(model, samples).histograms
    order = np.random.default_rng(parts).permutation(20)
    merged = merge_histograms(
        collect(model, [samples[i] for i in chosen]).histograms
        for chosen in np.array_split(order, parts)
    )
    assert merged == at_once
    tables = [CalibrationTable.from_histograms("m", "entropy", 20, h) for h in (at_once, merged)]
    assert tables[0] == tables[1]


def test_one_sample_is_enough_to_calibrate() -> None:
    collection = collect(tiny_model(), tiny_samples(1))
    table = CalibrationTable.from_histograms("m", "entropy", 1, collection.histograms)
    assert list(table.tensors) == ACTIVATIONS
    assert all(row.lo <= row.hi for row in table.tensors.values())


def test_a_dead_activation_has_the_range_zero() -> None:
    collection = collect(one_op_model("RELU"), [x_sample([-1, -2, -3, -4])])
    row = CalibrationTable.from_histograms("m", "entropy", 1, collection.histograms).tensors["y"]
    assert (row.lo, row.hi, row.min, row.max, row.clipped_ratio) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (x_sample([1, np.nan, 0, 0]), "input 'x' holds NaN or infinity"),
        (x_sample([1, -np.inf, 0, 0]), "input 'x' holds NaN or infinity"),
        (x_sample([1, 2, 3]), "input 'x' has shape [1, 3]; the model takes [1, 4]"),
        (x_sample([1, 2, 3, 4], dtype=float), "has type float64; the model takes float32"),
        (Sample("b", {}), "input 'x' is missing"),
        (Sample("b", {"y": np.zeros((1, 4), np.float32)}), "input 'y' is unknown"),
        (x_sample([200, 0, 0, 0]), "activation 'y' holds NaN or infinity"),
    ],
)
def test_an_unusable_sample_is_dropped_with_its_reason(bad: Sample, reason: str) -> None:
    good = x_sample([1, 2, 3, 4])
    model = one_op_model("EXP")
    collection = collect(model, [good, replace(bad, id="bad"), good])
    assert [d.id for d in collection.dropped] == ["bad"]
    assert reason in collection.dropped[0].reason
    assert collection.histograms == collect(model, [good, good]).histograms


def test_a_frame_20_times_too_bright_is_dropped() -> None:
    samples = tiny_samples(100)
    glitch = Sample("glitch", {"image": samples[40].inputs["image"] * np.float32(20)})
    samples[40] = glitch
    collection = collect(tiny_model(), samples)
    assert [d.id for d in collection.dropped] == ["glitch"]
    assert "times brighter than the median sample" in collection.dropped[0].reason
    assert collection.samples == 99
    kept = [s for s in samples if s is not glitch]
    assert collection.histograms == collect(tiny_model(), kept).histograms
    assert collect(tiny_model(), samples, screening=None).samples == 100


def test_no_samples_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="0 samples") as caught:
        collect(tiny_model(), [])
    assert caught.value.hint


def test_no_usable_sample_is_an_error_with_the_first_reason() -> None:
    with pytest.raises(CalibrationError, match=r"none of the 2 .* 'x' holds NaN") as caught:
        collect(one_op_model(), [x_sample([np.nan] * 4), x_sample([1])])
    assert caught.value.hint


def test_progress_counts_every_sample_while_it_streams() -> None:
    done: list[int] = []

    def stream() -> Iterator[Sample]:
        for position, sample in enumerate([*tiny_samples(2), x_sample([1])]):
            assert len(done) == position
            yield sample

    collect(tiny_model(), stream(), progress=done.append)
    assert done == [1, 2, 3]


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_model()
    before = model.to_bytes()
    collect(model, tiny_samples(1))
    assert model.to_bytes() == before


def test_a_model_without_float_activations_is_an_error() -> None:
    g = GraphBuilder({"x": (1, 4)}, type_name="INT32")
    model = g.finish(g.op("ABS", g.inputs, ("y", (1, 4)), type_name="INT32"))
    with pytest.raises(CalibrationError, match="no float activation"):
        collect(model, [x_sample([1, 2, 3, 4], dtype=np.int32)])


def test_integer_inputs_have_no_histogram() -> None:
    g = GraphBuilder({"x": (1, 4)}, type_name="INT32")
    model = g.finish(g.op("CAST", g.inputs, ("y", (1, 4)), options="CastOptions"))
    collection = collect(model, [x_sample([1, 2, 3, 4], dtype=np.int32)])
    assert list(collection.histograms) == ["y"]


def test_the_built_in_kernels_take_over_where_the_delegate_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing(Runner):
        def __init__(self, content: bytes, *, delegate: bool = True, **options: Any) -> None:
            if delegate:
                raise EngineError("too many outputs")
            super().__init__(content, delegate=False, **options)

    monkeypatch.setattr(tapped, "Runner", Refusing)
    assert collect(tiny_model(), tiny_samples(2)).samples == 2


def test_the_built_in_kernels_take_over_where_the_delegate_fails_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(Runner):
        def __init__(self, content: bytes, *, delegate: bool = True, **options: Any) -> None:
            super().__init__(content, delegate=delegate, **options)
            self.is_delegated = delegate

        def run_in_place(self, inputs: Any) -> list[Any]:
            if self.is_delegated:
                raise EngineError("inference failed")
            return super().run_in_place(inputs)

    monkeypatch.setattr(tapped, "Runner", Failing)
    assert collect(tiny_model(), tiny_samples(2)).samples == 2


def test_a_sample_at_which_all_kernels_fail_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Runner):
        def run_in_place(self, inputs: Any) -> list[Any]:
            if (inputs["image"][:, 0, 0, 0] == 7).any():
                raise EngineError("inference failed: index out of range")
            return super().run_in_place(inputs)

    monkeypatch.setattr(tapped, "Runner", Failing)
    bad = Sample("bad", {"image": np.full((1, 8, 8, 3), 7, np.float32)})
    collection = collect(tiny_model(), [*tiny_samples(1), bad, bad, *tiny_samples(2)])
    assert [(d.id, d.reason) for d in collection.dropped] == [
        ("bad", "inference failed: index out of range")
    ] * 2
    assert collection.samples == 3


def test_constants_computed_by_the_graph_do_not_hide_a_glitch() -> None:
    g = GraphBuilder({"x": (1, 4)})
    for number in range(8):  # as a float16 model computes its weights
        weights = g.constant(f"w{number}", np.ones((1, 4), np.float32))
        g.op("ABS", [weights], (f"abs{number}", (1, 4)))
    model = g.finish(g.op("ABS", g.inputs, ("y", (1, 4))))
    samples = [x_sample([1, 2, 3, 4], f"s{i}") for i in range(20)]
    collection = collect(model, [*samples, x_sample([100, 1, 1, 1], "glitch")])
    assert [d.id for d in collection.dropped] == ["glitch"]
    assert collection.histograms["abs3"].count == 20 * 4


def test_extrema_are_of_all_values_where_thinning_skips_them() -> None:
    values = np.zeros((1, 1 << 19), np.float32)
    values[0, 3], values[0, 5] = 7, -9
    histogram = collect(one_op_model("ABS", values.shape), [x_sample(values)]).histograms["x"]
    assert (histogram.min, histogram.max) == (-9, 7)
    assert histogram.count < values.size


@pytest.mark.shared
def test_glitches_do_not_move_the_ranges_of_a_trained_net(shared: Path) -> None:
    tasks = {task["id"]: task for task in json.loads((shared / "data/tasks.json").read_text())}
    task = tasks["resnet8_cifar10"]
    model = Model.read(shared / "data" / task["model"])
    name = model.name(model.inputs[0])
    images = np.load(shared / "data" / task["data"] / "calib.npz")["x"][:128]
    samples = [Sample(f"{i}", {name: x[None].astype(np.float32)}) for i, x in enumerate(images)]
    glitches = [Sample("glitch", {name: samples[i].inputs[name] * 20}) for i in (7, 70)]
    clean, glitched = collect(model, samples), collect(model, [*samples, *glitches])
    assert clean.dropped == ()
    assert [d.id for d in glitched.dropped] == ["glitch", "glitch"]
    assert glitched.histograms == clean.histograms
