"""ADD, SUB and MUL of two tensors, as XNNPACK computes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from edgeq.engines.cuda.graph import Op, Tensor
from edgeq.engines.cuda.lowering.draft import Draft, Refusal, require
from edgeq.engines.cuda.lowering.lookups import LEVELS, is_unary, lookup
from edgeq.engines.cuda.lowering.probe import run_alone
from edgeq.engines.cuda.lowering.ranges import delegated_bounds
from edgeq.engines.cuda.nodes import Addition, FixedPoint, Product, Program, Sum, Value
from edgeq.engines.cuda.reference import evaluate

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
    draft.add(_as_computed_here(draft, op, [node]))


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
    draft.add(_as_computed_here(draft, op, [node, in_integers]))


def fixed_point(scale: float) -> FixedPoint:
    """Return a float32 scale as XNNPACK has it on ARM.

    Source: xnn_init_qs8_mul_minmax_rndnu_neon_params of microparams-init.c.
    """
    mantissa, exponent = math.frexp(scale)
    right = max(1, -exponent)
    return FixedPoint(int(mantissa * 2**31), right + exponent, right)


def _as_computed_here(draft: Draft, op: Op, nodes: Sequence[Sum | Product]) -> Sum | Product:
    """Return the node that gives what this CPU's kernel gives for all 65,536 pairs of values."""
    shape = (*(1,) * (len(draft.tensor(op.outputs[0]).shape) - 1), LEVELS * LEVELS)
    every = np.arange(-128, 128, dtype=np.int8)
    pairs = np.repeat(every, LEVELS).reshape(shape), np.tile(every, LEVELS).reshape(shape)
    expected = run_alone(draft, op, dict(zip(op.inputs, pairs, strict=True)), shape)
    values = tuple(Value(name, shape, "int8") for name in ("a", "b", "y"))
    for node in nodes:
        alone = dataclasses.replace(node, a=0, b=1, y=2)
        found = evaluate(Program(values, (alone,), (0, 1), (2,)), dict(enumerate(pairs)))
        if (found[2] == expected).all():
            return node
    raise Refusal("is computed otherwise by this CPU")
