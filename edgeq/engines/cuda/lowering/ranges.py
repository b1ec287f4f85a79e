"""A fused activation and an output's scale -> the int8 bounds that the CPU's kernels clamp to."""

from __future__ import annotations

import math

import numpy as np

from edgeq.engines.cuda.lowering.draft import Refusal
from edgeq.engines.cuda.lowering.graph import Op, Tensor
from edgeq.engines.cuda.program.nodes import Pair

REAL_BOUNDS = {  # ActivationFunctionType -> what it lets through
    0: (-math.inf, math.inf),  # NONE
    1: (0.0, math.inf),  # RELU
    2: (-1.0, 1.0),  # RELU_N1_TO_1
    3: (0.0, 6.0),  # RELU6
}


def _real_bounds(op: Op) -> tuple[float, float]:
    code = int(op.options.get("fusedActivationFunction", 0))
    if code not in REAL_BOUNDS:
        raise Refusal(f"has the fused activation {code}")
    return REAL_BOUNDS[code]


def delegated_bounds(op: Op, y: Tensor) -> Pair:
    """Return the bounds as XNNPACK has them: `xnn_qs8_quantize` of its requantization.h."""

    def quantized(bound: float) -> int:
        level = np.float32(bound) / y.scale + np.float32(y.zero_point)
        return int(np.rint(np.clip(level, np.float32(-128), np.float32(127))))

    low, high = _real_bounds(op)
    return quantized(low), quantized(high)


def builtin_bounds(op: Op, y: Tensor) -> Pair:
    """Return the bounds as LiteRT's kernels have them: CalculateActivationRangeQuantized."""

    def quantized(bound: float) -> int:
        if math.isinf(bound):
            return -128 if bound < 0 else 127
        steps = float(np.float32(bound) / y.scale)
        rounded = math.floor(abs(steps) + 0.5)
        return y.zero_point + (rounded if steps >= 0 else -rounded)

    low, high = _real_bounds(op)
    return max(-128, quantized(low)), min(127, quantized(high))
