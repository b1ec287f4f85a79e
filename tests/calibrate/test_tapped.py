"""Frames run together show what each shows alone, or are run alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import edgeq.calibrate.tapped as module
from edgeq.calibrate.tapped import MAX_BATCH, TappedModel
from edgeq.errors import EngineError
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.calibrate.batchable import batchable_model
from tests.tiny import GraphBuilder, one_op_model, tiny_inputs, tiny_model

Shown = dict[str, dict[str, np.ndarray]]


def shown_by(tapped: TappedModel, samples: Sequence[Sample]) -> tuple[Shown, list[str]]:
    """What each sample showed, by name, and the failures."""
    seen: Shown = {}

    def look(samples: Sequence[Sample], tensors: list[np.ndarray], batch: int) -> None:
        for frame, sample in enumerate(samples):
            rows = [tensor.reshape(batch, -1)[frame].copy() for tensor in tensors]
            seen[sample.id] = dict(zip(tapped.shown, rows, strict=True))

    failed: list[str] = []
    for start in range(0, len(samples), tapped.batch):
        failed += [s.id for s, _ in tapped.show(samples[start : start + tapped.batch], look)]
    return seen, failed


def tiny_samples(count: int) -> list[Sample]:
    return [Sample(f"s{seed}", tiny_inputs(seed)) for seed in range(count)]


def test_a_small_model_is_run_in_batches() -> None:
    assert TappedModel(batchable_model(), 1).batch == MAX_BATCH


@pytest.mark.parametrize("count", [1, 31, 32, 45])
def test_a_batch_shows_what_its_frames_show_alone(count: int) -> None:
    model = batchable_model()
    tapped = TappedModel(model, 1)
    seen, failed = shown_by(tapped, tiny_samples(count))
    runner = Runner(model.to_bytes())
    assert failed == []
    for sample in tiny_samples(count):
        expected = runner.run(sample.inputs)["scores"].reshape(-1)
        np.testing.assert_array_equal(seen[sample.id]["scores"], expected)
        np.testing.assert_array_equal(seen[sample.id]["image"], sample.inputs["image"].reshape(-1))


def mixing_model() -> Model:
    """Adds up over the first axis: a frame in a batch depends on those before it."""
    g = GraphBuilder({"x": (1, 4)})
    axis = g.constant("axis", np.array(0, np.int32), "INT32")
    return g.finish(g.op("CUMSUM", [0, axis], ("y", (1, 4)), options="CumsumOptions"))


def integer_model() -> Model:
    g = GraphBuilder({"x": (1, 4)}, type_name="INT32")
    return g.finish(g.op("CAST", g.inputs, ("y", (1, 4)), options="CastOptions"))


def free_model() -> Model:
    model = one_op_model("RELU", (1, 4))
    for tensor in model.tensors:
        tensor.shapeSignature = np.array([1, -1], np.int32)
    return model


def remembering_model() -> Model:
    model = one_op_model("RELU", (1, 4))
    model.tensors[1].isVariable = True
    return model


@pytest.mark.parametrize(
    "model",
    [
        tiny_model(),  # its RESHAPE is to one frame
        mixing_model(),
        integer_model(),
        free_model(),
        one_op_model("RELU", (2, 4)),
        one_op_model("RELU", ()),
        one_op_model("RELU", (1, module.BATCH_BYTES // 4)),
    ],
    ids=["fixed reshape", "mixing", "integers", "free extent", "two rows", "scalar", "large"],
)
def test_frames_that_would_not_come_out_the_same_are_run_alone(model: Model) -> None:
    assert TappedModel(model, 1).batch == 1


def test_a_model_that_remembers_is_run_frame_by_frame() -> None:
    assert module._batch_size(remembering_model(), [1]) == 1


def test_a_frame_that_fails_does_not_spoil_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Runner):
        def run_in_place(self, inputs: Any) -> list[Any]:
            if (inputs["image"][:, 0, 0, 0] == 7).any():
                raise EngineError("inference failed")
            return super().run_in_place(inputs)

    monkeypatch.setattr(module, "Runner", Failing)
    samples = tiny_samples(20)
    samples[3] = Sample("bad", {"image": np.full((1, 8, 8, 3), 7, np.float32)})
    tapped = TappedModel(batchable_model(), 1)
    assert tapped.batch > 1
    seen, failed = shown_by(tapped, samples)
    assert failed == ["bad"]
    assert len(seen) == 19


def test_a_twin_is_not_shown() -> None:
    tapped = TappedModel(tiny_model(), 1)
    assert tapped.names == ["image", "conv", "relu", "dw", "pool", "flat", "logits", "scores"]
    assert tapped.shown == ["image", "conv", "relu", "dw", "pool", "logits", "scores"]
    assert tapped.twins["flat"][0] == "pool"
    assert tapped.rectified == {"relu", "dw"}


def test_a_model_of_twins_alone_shows_them() -> None:
    g = GraphBuilder({"x": (1, 4)})
    shape = g.constant("shape", np.array([2, 2], np.int32), "INT32")
    model = g.finish(g.op("RESHAPE", [0, shape], ("y", (2, 2)), options="ReshapeOptions"))
    tapped = TappedModel(model, 1)
    assert (tapped.shown, tapped.twins) == (["x", "y"], {})


def test_values_whose_sum_overflows_are_finite() -> None:
    tapped = TappedModel(one_op_model("ABS"), 1)
    most = np.finfo(np.float32).max
    assert tapped.refusal(Sample("s", {"x": np.full((1, 4), most)})) == ""
