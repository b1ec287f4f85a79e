"""Float model + an INT8 form with corrected biases -> the float model with those corrections.

Rounding shifts every channel's mean, and bias correction takes the shifts out again (`refine`).
INT8 forms that are compared without it are ranked by noise that will not stay; to correct each is
too dear. But the shifts are nearly the same for all ranges: most come from the weights. So they
are measured once and put into the float model, and every form quantized from that copy has them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.quantize.convert import INT8_SUFFIX
from edgeq.quantize.plan import optional_input
from edgeq.quantize.prepare import constant_values, prepare
from edgeq.quantize.scheme import RULES
from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]


def shifted(model: Model, int8: Model, corrected: Model) -> Model:
    """Return a copy of `model` whose biases hold what `corrected` added to those of `int8`.

    Args:
        model: the float model.
        int8: what `quantize` made of it.
        corrected: what `correct_biases` made of that; the same ops in the same order.
    """
    copy, prepared = model.copy(), prepare(model).model
    producers, names = copy.producers(), int8.names()
    sources = {f"{name}{INT8_SUFFIX}": tensor for tensor, name in enumerate(model.names())}
    for before, after in zip(int8.operators, corrected.operators, strict=True):
        shift = _shift(int8, before, corrected, after)
        output = sources.get(names[indices(before.outputs)[0]]) if shift is not None else None
        if shift is not None and output is not None:
            operator = copy.operators[producers[output]]
            position = _bias_position(int8, before)
            biases = constant_values(prepared, optional_input(operator, position))
            _give_bias(copy, operator, position, (biases + shift).astype(np.float32))
    return copy


def _bias_position(model: Model, operator: Any) -> int:
    """Return which input of the op is its bias; a negative number where it can have none."""
    rule = RULES.get(model.op_name(operator))
    return rule.weights.bias if rule is not None and rule.weights is not None else -1


def _shift(int8: Model, before: Any, corrected: Model, after: Any) -> Array | None:
    """Return how far the op's bias moved, in the units of its output; None where it did not."""
    position = _bias_position(int8, before)
    bias = optional_input(before, position) if position >= 0 else -1
    levels, parameters = int8.constant(bias), int8.quantization(bias) if bias >= 0 else None
    moved = corrected.constant(optional_input(after, position)) if position >= 0 else None
    if levels is None or moved is None or parameters is None or np.array_equal(levels, moved):
        return None
    shift: Array = (moved.astype(np.float64) - levels) * parameters.scale.astype(np.float64)
    return shift


def _give_bias(model: Model, operator: Any, position: int, biases: Array) -> None:
    """Give the op a bias tensor of its own: others may read the old one."""
    inputs = indices(operator.inputs)
    name = f"{model.name(inputs[position])}_shifted"
    inputs[position] = model.add_tensor(name, biases.shape, "FLOAT32", values=biases)
    operator.inputs = np.asarray(inputs, np.int32)
