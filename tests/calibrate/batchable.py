"""The tiny model with a RESHAPE that takes any number of frames."""

from __future__ import annotations

import numpy as np

from edgeq.tflite.model import Model
from tests.tiny import tiny_model


def batchable_model(seed: int = 0) -> Model:
    """Return `tiny_model`, but that its RESHAPE is to [-1, 24]."""
    model = tiny_model(seed)
    shape = np.array([-1, 24], np.int32)
    (reshape,) = [op for op in model.operators if model.op_name(op) == "RESHAPE"]
    constant = model.add_tensor("any/shape", shape.shape, "INT32", values=shape)
    reshape.inputs = np.array([reshape.inputs[0], constant], np.int32)
    reshape.builtinOptions.newShape = shape
    return model.copy()
