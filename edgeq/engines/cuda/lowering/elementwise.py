"""ADD, SUB, MUL, MAXIMUM and MINIMUM of two tensors, held to this CPU for all pairs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from edgeq.engines.cuda.lowering.draft import Draft, require
from edgeq.engines.cuda.lowering.graph import Op, Tensor
from edgeq.engines.cuda.lowering.lookups import LEVELS, is_unary, lookup
from edgeq.engines.cuda.lowering.probe import Trial, as_computed_here
from edgeq.engines.cuda.lowering.ranges import delegated_bounds
from edgeq.engines.cuda.program.nodes import Addition, Extremum, FixedPoint, Product, Sum

MULTIPLIER_BITS = 20
SMALLEST_ADDEND, SMALLEST_PRODUCT, LARGEST = 2.0**-10, 2.0**-16, 256.0  # what XNNPACK takes


def addition(draft: Draft, op: Op) -> None:
    """Lower ADD and SUB."""
    if is_unary(draft, op):
        lookup(draft, op)
        return
    a, b, y = (draft.int8(t) for t in (*op.inputs, *op.outputs))
    sign = -1 if op.name == "SUB" else 1
    first, second, result = draft.tensor(a), draft.tensor(b), draft.tensor(y)
    _require_scales(first, second, result)
    low, high = delegated_bounds(op, result)
    node = Sum(a, b, y, sum_of(first, second, result, sign, low, high))
    draft.add(as_computed_here(draft, op, [node], [_every_pair(draft, op)]))


def _require_scales(first: Tensor, second: Tensor, result: Tensor) -> None:
    for tensor in (first, second):
        ratio = float(tensor.scale / result.scale)
        require(SMALLEST_ADDEND <= ratio < LARGEST,
                "has scales that XNNPACK refuses, so another kernel computes it")  # fmt: skip


def sum_of(first: Tensor, second: Tensor, y: Tensor, sign: int, low: int, high: int) -> Addition:
    """Return the fixed-point arithmetic of XNNPACK's qs8 vadd.

    Source: xnn_init_qs8_add_minmax_scalar_params of microparams-init.c.
    """
    ratios = float(first.scale / y.scale), float(second.scale / y.scale)
    shift = MULTIPLIER_BITS - (math.frexp(max(ratios))[1] - 1)
    a_factor, b_factor = (int(np.rint(np.float32(math.ldexp(ratio, shift)))) for ratio in ratios)
    b_factor *= sign
    bias = (1 << (shift - 1)) - a_factor * first.zero_point - b_factor * second.zero_point
    return Addition(a_factor, b_factor, bias, shift, y.zero_point, low, high)


def extremum(draft: Draft, op: Op) -> None:
    """Lower MAXIMUM and MINIMUM, of raw integers as LiteRT has them."""
    if is_unary(draft, op):
        lookup(draft, op)
        return
    a, b, y = (draft.int8(t) for t in (*op.inputs, *op.outputs))
    node = Extremum("maximum" if op.name == "MAXIMUM" else "minimum", a, b, y)
    draft.add(as_computed_here(draft, op, [node], [_every_pair(draft, op)]))


def product(draft: Draft, op: Op) -> None:
    """Lower MUL."""
    if is_unary(draft, op):
        lookup(draft, op)
        return
    a, b, y = (draft.int8(t) for t in (*op.inputs, *op.outputs))
    first, second, result = draft.tensor(a), draft.tensor(b), draft.tensor(y)
    scale = float(first.scale * second.scale / result.scale)
    require(SMALLEST_PRODUCT <= scale < LARGEST,
            "has scales that XNNPACK refuses, so another kernel computes it")  # fmt: skip
    low, high = delegated_bounds(op, result)
    node = Product(a, b, y, first.zero_point, second.zero_point, scale, result.zero_point,
                   low, high)  # fmt: skip
    in_integers = dataclasses.replace(node, fixed=fixed_point(scale))
    nodes = [node, in_integers]
    draft.add(as_computed_here(draft, op, nodes, [_every_pair(draft, op)]))


def fixed_point(scale: float) -> FixedPoint:
    """Return a float32 scale as XNNPACK has it on ARM.

    Source: xnn_init_qs8_mul_minmax_rndnu_neon_params of microparams-init.c.
    """
    mantissa, exponent = math.frexp(scale)
    right = max(1, -exponent)
    return FixedPoint(int(mantissa * 2**31), right + exponent, right)


def _every_pair(draft: Draft, op: Op) -> Trial:
    """Return a trial of all 65,536 pairs of values."""
    shape = (*(1,) * (len(draft.tensor(op.outputs[0]).shape) - 1), LEVELS * LEVELS)
    every = np.arange(-128, 128, dtype=np.int8)
    pairs = np.repeat(every, LEVELS).reshape(shape), np.tile(every, LEVELS).reshape(shape)
    return Trial(dict(zip(op.inputs, pairs, strict=True)), shape)
