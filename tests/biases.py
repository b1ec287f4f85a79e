"""INT8 models whose biases are wrong on purpose."""

from __future__ import annotations

import numpy as np

from edgeq.tflite.model import Model


def with_moved_biases(int8: Model, by: float) -> Model:
    """The model with an error of the same size in every int32 bias."""
    wrong = int8.copy()
    for index in range(len(wrong.tensors)):
        parameters = wrong.quantization(index)
        if wrong.type_name(index) == "INT32" and parameters is not None:
            moved = np.rint(wrong.constant(index) + by / parameters.scale).astype(np.int32)
            wrong.tensors[index].buffer = wrong.add_buffer(moved)
    return wrong
