"""Float model, INT8 model, table, histograms and a few inputs -> Explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.explain.explanation import Explanation
from edgeq.explain.layers import explain_layers
from edgeq.explain.tensors import explain_tensors
from edgeq.explain.words import worst_layers
from edgeq.quantize.prepare import prepare
from edgeq.tflite.model import Model

Inputs = Mapping[str, npt.NDArray[Any]]

MAX_INPUTS = 8


def explain(
    model: Model,
    int8: Model,
    table: CalibrationTable,
    histograms: Mapping[str, Histogram],
    inputs: Sequence[Inputs],
    *,
    threads: int = 1,
) -> Explanation:
    """Say what each tensor is like, how far each op is from float, and which ones cost most.

    Where the models cannot be run side by side, the tensors alone are explained, and why. CPU time,
    one thread, 8 inputs: MobileNet 0.25 0.6 s, UltraFace 1.6 s, DeepLab 3.0 s.

    Args:
        model: the float model that `int8` was quantized from.
        int8: its INT8 form, as it is to be served.
        table: the ranges that it was made with.
        histograms: those that the table was made from, by tensor name.
        inputs: samples that were used for nothing else; at most 8 are taken, of one shape.
        threads: CPU threads of one inference.
    """
    tensors = explain_tensors(model, int8, table, histograms)
    chosen = _alike(inputs)[:MAX_INPUTS]
    if not chosen:
        return Explanation(tensors, unmeasured="there was no sample to measure the layers on")
    try:
        layers = explain_layers(prepare(model).model, int8, table, chosen, threads)
    except (EngineError, InvalidRequestError) as error:
        reason = f"the models cannot be run side by side: {error.message}"
        return Explanation(tensors, unmeasured=reason)
    return Explanation(tensors, layers, worst_layers(layers, tensors), len(chosen))


def _alike(inputs: Sequence[Inputs]) -> list[Inputs]:
    """Return the inputs that have the shapes of the first one."""
    shapes = [{name: value.shape for name, value in given.items()} for given in inputs]
    return [given for given, shape in zip(inputs, shapes, strict=True) if shape == shapes[0]]
