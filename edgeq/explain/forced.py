"""A float model -> the same model in which every op reads what it is given.

Given the INT8 model's activations, each op writes what it would have written in float from just
these: what the INT8 op differs by is its own doing, the rest is its inputs'. One run shows it for
all ops at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]

GIVEN_SUFFIX = "/given"


def forced(
    model: Model, given: Mapping[int, tuple[int, ...]], wanted: Iterable[int]
) -> tuple[Model, dict[str, int]]:
    """Return the forced model, and the tensor of `model` behind each of its further inputs.

    Args:
        model: the float model; it is not changed.
        given: activations that ops write, with their real shapes; the inputs are given anyway.
        wanted: the activations to be shown, in this order, as the outputs.
    """
    names, result = model.names(), model.copy()
    result.proto.signatureDefs = []  # they know nothing of the new inputs
    read = {t for operator in model.operators for t in indices(operator.inputs)}
    replaced = {
        tensor: result.add_tensor(f"{names[tensor]}{GIVEN_SUFFIX}", shape, "FLOAT32")
        for tensor, shape in given.items()
        if tensor in read
    }
    for operator in result.operators:
        inputs = [replaced.get(t, t) for t in indices(operator.inputs)]
        operator.inputs = np.asarray(inputs, np.int32)
    result.graph.inputs = np.asarray([*model.inputs, *replaced.values()], np.int32)
    result.graph.outputs = np.asarray(list(wanted), np.int32)
    inside = result.names()
    return result, {inside[new]: tensor for tensor, new in replaced.items()}
