"""Models with one illness each, calibrated, quantized and explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable
from edgeq.explain.explain import explain
from edgeq.explain.explanation import Advice, Explanation, LayerExplanation
from edgeq.quantize.convert import quantize
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from tests import tiny
from tests.build_samples import drawn
from tests.tiny import Array

Changed = Callable[[Model], Model]


def explained(
    model: Model,
    samples: Sequence[Sample],
    *,
    method: str = "max",
    inputs: Sequence[dict[str, Array]] | None = None,
    changed: Changed = lambda int8: int8,
) -> Explanation:
    """Calibrate on these samples and explain on others, by default the last six of them."""
    collection = collect(model, samples, screening=None)
    table = CalibrationTable.from_histograms("", method, len(samples), collection.histograms)
    int8 = changed(quantize(model, table).model)
    shown = [sample.inputs for sample in samples[-6:]] if inputs is None else inputs
    return explain(model, int8, table, collection.histograms, shown)


def layer(explanation: Explanation, tensor: str, op: str = "") -> LayerExplanation:
    (found,) = [e for e in explanation.layers if e.tensor == tensor and op in e.op]
    return found


def advice(explanation: Explanation, tensor: str) -> Advice:
    return next(each for each in explanation.worst if each.tensor == tensor)


def dense(weights: Array) -> Model:
    """One FULLY_CONNECTED: 'x' [1, inputs] -> 'y' [1, outputs]."""
    outputs, inputs = weights.shape
    g = tiny.GraphBuilder({"x": (1, inputs)})
    kernel = g.constant("w", weights.astype(np.float32))
    bias = g.constant("b", np.zeros(outputs, np.float32))
    return g.finish(g.op("FULLY_CONNECTED", [0, kernel, bias], ("y", (1, outputs)),
                         options="FullyConnectedOptions"))  # fmt: skip


def scaled(samples: Sequence[Sample], by: float) -> list[dict[str, Array]]:
    return [{n: (v * by).astype(np.float32) for n, v in s.inputs.items()} for s in samples]


def heavy_tailed(count: int, shape: tuple[int, ...]) -> list[Sample]:
    """Values whose few largest are many times as large as the rest."""
    samples = drawn(count, x=shape)
    return [Sample(s.id, {"x": np.sign(s.inputs["x"]) * np.abs(s.inputs["x"]) ** 4})
            for s in samples]  # fmt: skip
