"""Model + CalibrationTable -> each activation's range, as far as its readers tell values apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgeq.calibrate.table import CalibrationTable
from edgeq.quantize.scheme import CLIP_BOUNDS, RULES, fused_bounds
from edgeq.tflite.model import Model, indices

Range = tuple[float, float]

HUGE = 1e30  # a range that reaches this far holds a "minus infinity" and leaves no steps for data
FAR_PADDING = 8.0  # a pad value this many widths below the data is a "minus infinity" too
ERASED = 256.0  # beside a range so many times as wide, all values of an operand are one level
MASKING = frozenset({"ADD", "SUB", "SELECT", "SELECT_V2"})  # what hides values from a softmax
ALL: Range = (-math.inf, math.inf)
NOTHING: Mapping[int, Range] = {}

# What an op tells apart: beyond, its own result in INT8 does not change. Measured on layers whose
# outputs reach 3 to 5 times as far: LOGISTIC +1.8 to +2.8 dB, TANH +2.3, HARD_SWISH +0.1 to +0.5.
TOLD_APART: dict[str, Range] = {
    **CLIP_BOUNDS,
    "HARD_SWISH": (-3.0, math.inf),  # 0 below
    "LOGISTIC": (-8.0, 8.0),  # 0.0003 from its end, where a step is 0.0039
    "TANH": (-4.0, 4.0),  # 0.0007 from its end, where a step is 0.0078
}


def activation_ranges(
    model: Model, table: CalibrationTable, given: Mapping[int, Range] = NOTHING
) -> dict[int, Range]:
    """Return the usable range of every activation in the table, narrowed to what ops let through.

    What is `given` stands above the table.

    An activation that only a RELU, RELU6 or RELU_N1_TO_1 reads takes the range behind it: what
    that op clips need not be told apart before. So it is with what saturates a LOGISTIC, TANH or
    HARD_SWISH, be it behind ops that only move. A "minus infinity" that PADV2 puts around a
    maximum pool may saturate, so that its output takes the range before it. One that hides values
    from a SOFTMAX may not: such a tensor has no usable range.
    """
    ranges = _calibrated(model, table) | dict(given)
    consumers = {t: [model.operators[p] for p in at] for t, at in model.consumers().items()}
    for operator in model.operators:
        name = model.op_name(operator)
        fused = fused_bounds(operator) or ALL
        for tensor in indices(operator.outputs):
            if tensor in ranges:
                ranges[tensor] = _clip(ranges[tensor], fused)
        if name == "PADV2":
            _pass_far_padding(model, operator, ranges, consumers)
        if name in CLIP_BOUNDS:
            _narrow_source(model, operator, CLIP_BOUNDS[name], ranges, consumers)
    for tensor, bounds in _told_apart(model).items():
        if tensor in ranges:
            ranges[tensor] = _clip(ranges[tensor], bounds)
    for tensor in _masked(model, ranges):
        del ranges[tensor]
    return ranges


def _calibrated(model: Model, table: CalibrationTable) -> dict[int, Range]:
    """Return the ranges of the table that can be used."""
    rows = {index: table.tensors.get(name) for index, name in enumerate(model.names())}
    return {
        index: (float(row.lo), float(row.hi))
        for index, row in rows.items()
        if row is not None and -HUGE < row.lo <= row.hi < HUGE
    }


def _told_apart(model: Model) -> dict[int, Range]:
    """Return for every tensor that is read the range in which its readers tell values apart."""
    needed: dict[int, Range] = dict.fromkeys(model.outputs, ALL)
    for operator in reversed(model.operators):
        name = model.op_name(operator)
        rule, bounds = RULES.get(name), TOLD_APART.get(name, ALL)
        if rule is not None and rule.moves_only:
            behind = union([needed.get(t, ALL) for t in indices(operator.outputs)])
            bounds = max(bounds[0], behind[0]), min(bounds[1], behind[1])
        for tensor in indices(operator.inputs):
            needed[tensor] = union([bounds, needed.get(tensor, bounds)])
    return needed


def _masked(model: Model, ranges: Mapping[int, Range]) -> set[int]:
    """Return the tensors between a mask and its SOFTMAX: -1e9 where a value must not count.

    In INT8 they would have one level for the mask and one for everything else.
    """
    producers, masked = model.producers(), set[int]()
    for operator in model.operators:
        if model.op_name(operator) == "SOFTMAX":
            tensor = indices(operator.inputs)[0]
            way = _back_to_the_mask(model, tensor, producers)
            makers = [producers[way[-1]]] if way and way[-1] in producers else []
            operands = [t for p in makers for t in indices(model.operators[p].inputs)]
            if any(_is_erased(ranges, operand, way[-1]) for operand in operands):
                masked.update(t for t in way if t in ranges)
    return masked


def _back_to_the_mask(model: Model, tensor: int, producers: Mapping[int, int]) -> list[int]:
    """Return the tensors from this one back, through ops that move, to what a MASKING op makes."""
    way = [tensor]
    while (maker := producers.get(way[-1])) is not None:
        operator = model.operators[maker]
        name = model.op_name(operator)
        if name in MASKING:
            return way
        rule = RULES.get(name)
        if rule is None or not rule.moves_only:
            break
        way.append(indices(operator.inputs)[rule.data_positions(operator)[0]])
    return []


def _is_erased(ranges: Mapping[int, Range], operand: int, result: int) -> bool:
    """True where INT8 leaves nothing of an op's operand in its result."""
    if operand not in ranges or result not in ranges:
        return False
    (low, high), (least, most) = ranges[operand], ranges[result]
    return 0.0 < (high - low) * ERASED < most - least


def _narrow_source(
    model: Model,
    operator: Any,
    bounds: Range,
    ranges: dict[int, Range],
    consumers: Mapping[int, list[Any]],
) -> None:
    source, target = indices(operator.inputs)[0], indices(operator.outputs)[0]
    if target in ranges and len(consumers[source]) == 1 and source not in model.outputs:
        ranges[source] = ranges[target] = _clip(ranges[target], bounds)


def _pass_far_padding(
    model: Model, operator: Any, ranges: dict[int, Range], consumers: Mapping[int, list[Any]]
) -> None:
    source, _, pad = indices(operator.inputs)
    target = indices(operator.outputs)[0]
    value = model.constant(pad)
    readers = [model.op_name(reader) for reader in consumers.get(target, [])]
    if value is None or source not in ranges or set(readers) != {"MAX_POOL_2D"}:
        return
    low, high = ranges[source]
    if float(value.reshape(-1)[0]) < low - FAR_PADDING * (high - low):
        ranges[target] = ranges[source]


def _clip(span: Range, bounds: Range) -> Range:
    return (
        min(max(span[0], bounds[0]), bounds[1]),
        min(max(span[1], bounds[0]), bounds[1]),
    )


def union(spans: list[Range]) -> Range:
    """Return the least range that holds all of these."""
    return min(low for low, _ in spans), max(high for _, high in spans)
