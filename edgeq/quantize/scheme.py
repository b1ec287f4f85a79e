"""The rule table: which tensor of which op gets which INT8 parameters.

Sources: LiteRT's 8-bit quantization specification, and what the kernels themselves check when a
model is loaded (LiteRT's built-in kernels and XNNPACK). An op without a rule stays float.

Where XNNPACK has no INT8 kernel, the built-in one is far behind XNNPACK's in float. Measured on
[1, 48, 48, 32], one thread, us: RSQRT 10 -> 5115, ABS 7 -> 680, SQUARED_DIFFERENCE 12 -> 798,
PRELU 13 -> 664, HARD_SWISH 7 -> 301, AVERAGE_POOL_2D 35 -> 361, L2_NORMALIZATION 58 -> 479; a
QUANTIZE or DEQUANTIZE around them takes 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Combination = Literal["none", "largest", "product", "square"]

FUSED_BOUNDS: dict[int, tuple[float, float]] = {  # ActivationFunctionType -> what it lets through
    0: (-math.inf, math.inf),  # NONE
    1: (0.0, math.inf),  # RELU
    2: (-1.0, 1.0),  # RELU_N1_TO_1
    3: (0.0, 6.0),  # RELU6
}
CLIP_BOUNDS: dict[str, tuple[float, float]] = {  # the same, as ops of their own
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
READS_ANY_TYPE = frozenset({"SHAPE", "RANK"})  # they look at the shape only


@dataclass(frozen=True)
class Weights:
    """Where an op keeps its weights and bias; `axis` is the output channel."""

    position: int
    bias: int
    axis: int


@dataclass(frozen=True)
class Rule:
    """How one op is quantized.

    `version` is the lowest op version with an INT8 kernel. `data` are the inputs that carry
    activations (None: all of them). `shares_scale`: its activations have one scale, because the
    kernel moves or compares raw integers. `moves_only`: it computes nothing, so INT8 pays only
    beside another INT8 op. `reference_only`: XNNPACK has no INT8 kernel for it. `combines` and
    `limit`: the scale of one step at the inputs, relative to the output's, that the kernels can
    still express. `covers_constants`: float constants widen the shared range; without it they
    saturate.
    """

    version: int
    data: tuple[int, ...] | None = (0,)
    weights: Weights | None = None
    shares_scale: bool = False
    moves_only: bool = False
    fixed_output: tuple[float, int] | None = None
    combines: Combination = "none"
    limit: float = 256.0
    covers_constants: bool = True
    symmetric_constant: bool = False
    needs_positive_input: bool = False
    reference_only: bool = False

    def data_positions(self, operator: Any) -> range | tuple[int, ...]:
        """Return the positions of the op's inputs that carry activations."""
        count = 0 if operator.inputs is None else len(operator.inputs)
        return range(count) if self.data is None else tuple(p for p in self.data if p < count)


def _moves(version: int, data: tuple[int, ...] | None = (0,)) -> Rule:
    return Rule(version, data, shares_scale=True, moves_only=True)


_CLIP = Rule(2, moves_only=True)  # int8 saturates: written as nothing, or as QUANTIZE
_ELEMENTWISE_SUM = Rule(2, (0, 1), combines="largest")

RULES: dict[str, Rule] = {
    # weights
    "CONV_2D": Rule(3, weights=Weights(1, 2, axis=0), combines="product"),
    "DEPTHWISE_CONV_2D": Rule(3, weights=Weights(1, 2, axis=3), combines="product"),
    "FULLY_CONNECTED": Rule(4, weights=Weights(1, 2, axis=0), combines="product"),
    "TRANSPOSE_CONV": Rule(2, (2,), weights=Weights(1, 3, axis=0), combines="product"),
    "BATCH_MATMUL": Rule(2, (0, 1), combines="product", symmetric_constant=True),
    # arithmetic
    "ADD": _ELEMENTWISE_SUM,
    "SUB": _ELEMENTWISE_SUM,
    "MUL": Rule(2, (0, 1), combines="product"),
    "SQUARED_DIFFERENCE": Rule(2, (0, 1), combines="square", limit=1024.0, reference_only=True),
    "MEAN": Rule(2, combines="largest"),
    "SUM": Rule(2, combines="largest"),
    "ABS": Rule(2, combines="largest", reference_only=True),
    "RSQRT": Rule(2, needs_positive_input=True, reference_only=True),
    # activation functions
    "RELU": _CLIP,
    "RELU6": _CLIP,
    "RELU_N1_TO_1": _CLIP,
    "LEAKY_RELU": Rule(1, combines="largest"),
    "PRELU": Rule(1, (0, 1), combines="largest", reference_only=True),
    "HARD_SWISH": Rule(1, combines="largest", limit=64.0, reference_only=True),
    "ELU": Rule(1),
    "GELU": Rule(2),
    "EXP": Rule(2),
    "LOGISTIC": Rule(2, fixed_output=(1 / 256, -128)),
    "TANH": Rule(2, fixed_output=(1 / 128, 0)),
    "SOFTMAX": Rule(2, fixed_output=(1 / 256, -128)),
    "LOG_SOFTMAX": Rule(2, fixed_output=(16 / 256, 127)),
    "L2_NORMALIZATION": Rule(2, fixed_output=(1 / 128, 0), reference_only=True),
    # one scale: the kernels compare, average or interpolate raw integers
    "AVERAGE_POOL_2D": Rule(2, shares_scale=True, reference_only=True),
    "MAX_POOL_2D": Rule(2, shares_scale=True),
    "RESIZE_BILINEAR": Rule(2, shares_scale=True),
    "MAXIMUM": Rule(2, (0, 1), shares_scale=True, covers_constants=False),
    "MINIMUM": Rule(2, (0, 1), shares_scale=True, covers_constants=False),
    "REDUCE_MAX": Rule(2, shares_scale=True),
    "REDUCE_MIN": Rule(2, shares_scale=True),
    # one scale: the kernels move raw integers
    "RESIZE_NEAREST_NEIGHBOR": _moves(2),
    "CONCATENATION": _moves(2, None),
    "PACK": _moves(2, None),
    "UNPACK": _moves(2),
    "SPLIT": _moves(2, (1,)),
    "SPLIT_V": _moves(2),
    "PAD": _moves(2),
    "PADV2": Rule(2, (0, 2), shares_scale=True, moves_only=True, covers_constants=False),
    "MIRROR_PAD": _moves(2),
    "RESHAPE": _moves(1),
    "SQUEEZE": _moves(1),
    "EXPAND_DIMS": _moves(1),
    "TRANSPOSE": _moves(2),
    "SLICE": _moves(2),
    "STRIDED_SLICE": _moves(2),
    "GATHER": _moves(2),
    "GATHER_ND": _moves(1),
    "DEPTH_TO_SPACE": _moves(2),
    "SPACE_TO_DEPTH": _moves(2),
    "SPACE_TO_BATCH_ND": _moves(2),
    "BATCH_TO_SPACE_ND": _moves(2),
    "TILE": _moves(3),
    "BROADCAST_TO": _moves(3),
    "REVERSE_V2": _moves(3),
    "SELECT": _moves(2, (1, 2)),
    "SELECT_V2": _moves(1, (1, 2)),
    "ARG_MAX": _moves(2),
    "ARG_MIN": _moves(2),
}


def fused_bounds(operator: Any) -> tuple[float, float] | None:
    """Return what the op's fused activation lets through; None where INT8 kernels lack it."""
    code = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    return FUSED_BOUNDS.get(int(code or 0))


def upper_bound(operator: Any, op_name: str) -> float:
    """Return what the op clips at from above, 0 where it does not."""
    fused = fused_bounds(operator) or (0.0, math.inf)
    bound = min(fused[1], CLIP_BOUNDS.get(op_name, fused)[1])
    return 0.0 if math.isinf(bound) else bound


def combined_step(rule: Rule, inputs: list[float], output: float) -> float:
    """Return the step of the op's result relative to one step of its output."""
    if rule.combines == "product":
        return math.prod(inputs) / output
    if rule.combines == "square":
        return max(inputs) ** 2 / output
    return max(inputs) / output
