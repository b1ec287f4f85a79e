"""Prepared float model -> how far the weights of each channel lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.quantize.plan import optional_input
from edgeq.quantize.scheme import RULES
from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]


def weight_spreads(model: Model) -> dict[int, float]:
    """Return for what each op with weights writes: a channel's largest weight / its median one.

    Of the channel where that is most; weights of 0 are no weights. All the steps of a channel span
    its largest weight, so that the median one keeps 127 / spread of them.
    """
    spreads = {}
    for operator in model.operators:
        rule = RULES.get(model.op_name(operator))
        if rule is not None and rule.weights is not None:
            values = model.constant(optional_input(operator, rule.weights.position))
            if values is not None and values.ndim > rule.weights.axis:
                spreads[indices(operator.outputs)[0]] = _spread(values, rule.weights.axis)
    return spreads


def _spread(values: Array, axis: int) -> float:
    magnitudes = np.abs(np.moveaxis(values, axis, 0).astype(np.float64))
    channels = [channel[channel > 0.0] for channel in magnitudes.reshape(len(magnitudes), -1)]
    return max((float(c.max() / np.median(c)) for c in channels if c.size), default=1.0)
