"""A normalised float model + table -> which ops run in INT8, and every parameter they need."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.calibrate.table import CalibrationTable
from edgeq.quantize.affine import INT8_MIN, weight_parameters
from edgeq.quantize.joins import Choice, remedy
from edgeq.quantize.prepare import constant_values
from edgeq.quantize.ranges import NOTHING, Range, activation_ranges
from edgeq.quantize.scheme import (
    READS_ANY_TYPE,
    RULES,
    Rule,
    Weights,
    combined_step,
    fused_bounds,
    upper_bound,
)
from edgeq.quantize.sharing import (
    Cut,
    activations,
    constant_parameters,
    float_constants,
    shared_parameters,
)
from edgeq.tflite.model import Model, Quantization, indices

MAX_CLIP_LEVEL = 2.0**30  # kernels compute the level of a fused RELU6's 6 in int32
LEAST_LEVELS = 8  # of 256, where a kernel demands the output's scale
FEW_VALUES = 512  # of which the slow kernels take 2 to 4 us, as much as two conversions
SLOW = "its INT8 kernel is slower than float's and the conversions around it"
NEIGHBOURS_FLOAT = "it only moves data, and nothing beside it runs in INT8"


@dataclass(frozen=True)
class Plan:
    """What runs in INT8.

    `rules`: op position -> its rule. `reasons`: position of every op with float tensors that
    stays float -> why. `activations`: tensor -> parameters of its int8 twin. `weights`: op
    position -> parameters of its weights. `apart`: what an op reads requantized to its output's
    parameters.
    """

    rules: Mapping[int, Rule]
    reasons: Mapping[int, str]
    activations: Mapping[int, Quantization]
    weights: Mapping[int, Quantization]
    apart: frozenset[Cut]


def make_plan(
    model: Model,
    table: CalibrationTable,
    keep_float: Iterable[int],
    given: Mapping[int, Range] = NOTHING,
    *,
    every_kernel: bool = False,
) -> Plan:
    """Choose the INT8 ops and their parameters; `keep_float` are op positions in `model`.

    Ranges that are `given` stand above the table's. `every_kernel` takes those that are slow on
    the CPU too.

    Dropping one op changes the scales its neighbours share, so that what they cost and what the
    kernels can express is asked again until nothing more drops out.
    """
    ranges = activation_ranges(model, table, given)
    reasons = dict.fromkeys(keep_float, "asked to stay float")
    apart: frozenset[Cut] = frozenset()
    candidates = _candidates(model, ranges, reasons, table.tensors, every_kernel)
    while True:
        rules = {p: rule for p, rule in candidates.items() if p not in reasons}
        idle = _idle_movers(model, rules)
        rules = {p: rule for p, rule in rules.items() if p not in idle}
        if found := remedy(Choice(model, rules, ranges, apart)):
            reasons |= found.float_ops
            apart |= found.apart
            continue
        parameters = shared_parameters(model, rules, ranges, apart)
        weights = _all_weights(model, rules, parameters)
        refused = _refused(model, rules, parameters, weights) | _unlevelled(model, rules, ranges)
        if not refused:
            return Plan(rules, reasons | idle, parameters, weights, apart)
        reasons |= refused


def _candidates(
    model: Model,
    ranges: Mapping[int, Range],
    reasons: dict[int, str],
    calibrated: Collection[str],
    every_kernel: bool,
) -> dict[int, Rule]:
    """Return the ops that have a rule and fit it; put the others that touch floats in `reasons`."""
    candidates = {}
    for position, operator in enumerate(model.operators):
        if not _touches_floats(model, operator) or model.op_name(operator) in READS_ANY_TYPE:
            reasons.pop(position, None)
            continue
        rule = RULES.get(model.op_name(operator))
        if position in reasons:
            continue
        if rule is None:
            reasons[position] = "it has no INT8 kernel"
        elif reason := _misfit(model, operator, rule, ranges, calibrated):
            reasons[position] = reason
        elif not every_kernel and _is_slow(model, operator, rule):
            reasons[position] = SLOW
        else:
            candidates[position] = rule
    return candidates


def _touches_floats(model: Model, operator: Any) -> bool:
    tensors = [*indices(operator.inputs), *indices(operator.outputs)]
    return any(t >= 0 and model.type_name(t) == "FLOAT32" for t in tensors)


def _misfit(
    model: Model,
    operator: Any,
    rule: Rule,
    ranges: Mapping[int, Range],
    calibrated: Collection[str],
) -> str:
    """Return why the op as it stands has no INT8 kernel, or ""."""
    data, outputs = activations(model, operator, rule)
    constants = float_constants(model, operator, rule)
    if not data and not (rule.shares_scale and constants and outputs):
        return "it reads no float32 activation"
    if fused_bounds(operator) is None:
        return "its fused activation has no INT8 kernel"
    if rule.covers_constants and not all(_is_finite(model, t) for t in constants):
        return "one of its constants is not finite"
    if missing := [t for t in [*data, *([] if rule.fixed_output else outputs)] if t not in ranges]:
        name = model.name(missing[0])
        if name in calibrated:
            return f"tensor {name!r} holds a 'minus infinity', beside which INT8 has no levels"
        return f"no range was calibrated for tensor {name!r}"
    return _weights_misfit(model, operator, rule.weights) if rule.weights else ""


def _is_slow(model: Model, operator: Any, rule: Rule) -> bool:
    """True where a kernel's speed counts more than a conversion; free extents may be large."""
    outputs = indices(operator.outputs) if rule.reference_only else ()
    shapes = [indices(model.tensors[t].shapeSignature) or model.shape(t) for t in outputs]
    return any(min(shape, default=1) < 0 or math.prod(shape) >= FEW_VALUES for shape in shapes)


def _is_finite(model: Model, index: int) -> bool:
    return bool(np.isfinite(constant_values(model, index)).all())


def _weights_misfit(model: Model, operator: Any, weights: Weights) -> str:
    index = indices(operator.inputs)[weights.position]
    if not model.is_constant(index):
        return "its weights are computed at run time"
    if model.type_name(index) != "FLOAT32" or model.tensors[index].sparsity is not None:
        return "its weights are sparse or packed"
    if getattr(operator.builtinOptions, "weightsFormat", 0):
        return "its weights are shuffled"
    bias = optional_input(operator, weights.bias)
    if bias >= 0 and (not model.is_constant(bias) or model.type_name(bias) != "FLOAT32"):
        return "its bias is not a float32 constant"
    if not all(_is_finite(model, t) for t in (index, bias) if t >= 0):
        return "its weights or bias are not finite"
    return ""


def optional_input(operator: Any, position: int) -> int:
    """Return the tensor at an input position, -1 where the op has none there."""
    inputs = indices(operator.inputs)
    return inputs[position] if position < len(inputs) else -1


def _idle_movers(model: Model, rules: Mapping[int, Rule]) -> dict[int, str]:
    """Return the data-moving ops that no chain of such ops connects to a computing INT8 op."""
    touched = {
        p: [t for ts in activations(model, model.operators[p], rule) for t in ts]
        for p, rule in rules.items()
    }
    at: dict[int, list[int]] = {}
    for position, tensors in touched.items():
        for tensor in tensors:
            at.setdefault(tensor, []).append(position)
    reached = {p for p, rule in rules.items() if not rule.moves_only}
    frontier = list(reached)
    while frontier:
        for tensor in touched[frontier.pop()]:
            new = [p for p in at[tensor] if p not in reached]
            reached.update(new)
            frontier.extend(new)
    return dict.fromkeys(set(rules) - reached, NEIGHBOURS_FLOAT)


def _all_weights(
    model: Model, rules: Mapping[int, Rule], parameters: Mapping[int, Quantization]
) -> dict[int, Quantization]:
    weights = {}
    for position, rule in rules.items():
        operator = model.operators[position]
        data = activations(model, operator, rule)[0]
        if rule.weights is None:
            continue
        bias = optional_input(operator, rule.weights.bias)
        weights[position] = weight_parameters(
            constant_values(model, optional_input(operator, rule.weights.position)),
            rule.weights.axis,
            constant_values(model, bias) if bias >= 0 else None,
            float(parameters[data[0]].scale[0]),
        )
    return weights


def _refused(
    model: Model,
    rules: Mapping[int, Rule],
    parameters: Mapping[int, Quantization],
    weights: Mapping[int, Quantization],
) -> dict[int, str]:
    """Return the ops whose kernels cannot express these scales, and why."""
    refused = {}
    for position, rule in rules.items():
        operator = model.operators[position]
        data, outputs = activations(model, operator, rule)
        if rule.needs_positive_input and parameters[data[0]].zero_point[0] != INT8_MIN:
            refused[position] = "its input is negative at times"
        if rule.combines == "none":
            continue
        output = float(parameters[outputs[0]].scale[0])
        inputs = _input_scales(model, position, rule, parameters, weights)
        if combined_step(rule, inputs, output) >= rule.limit:
            refused[position] = "its output's range is narrower than one step of its inputs"
        elif upper_bound(operator, model.op_name(operator)) / output > MAX_CLIP_LEVEL:
            refused[position] = "its output's range is too narrow for its fused activation"
    return refused


def _unlevelled(
    model: Model, rules: Mapping[int, Rule], ranges: Mapping[int, Range]
) -> dict[int, str]:
    """Return the ops whose outputs are so small that the scale their kernels demand is too coarse.

    A TANH near 0 is nothing but 0 then, as are the scores of a detector that has seen no object.
    """
    refused = {}
    for position, rule in rules.items():
        for tensor in activations(model, model.operators[position], rule)[1]:
            if rule.fixed_output is None or tensor not in ranges:
                continue
            low, high = (min(ranges[tensor][0], 0.0), max(ranges[tensor][1], 0.0))
            levels = round((high - low) / rule.fixed_output[0])
            if high - low > 0.0 and levels < LEAST_LEVELS:
                refused[position] = f"its kernel's output scale would leave it {levels + 1} levels"
    return refused


def _input_scales(
    model: Model,
    position: int,
    rule: Rule,
    parameters: Mapping[int, Quantization],
    weights: Mapping[int, Quantization],
) -> list[float]:
    """Return the scales that the op combines."""
    operator = model.operators[position]
    operands = [parameters[t] for t in activations(model, operator, rule)[0]]
    constants = float_constants(model, operator, rule)
    operands += [constant_parameters(model, t, rule) for t in constants]
    if position in weights:
        operands.append(weights[position])
    return [float(operand.scale.max()) for operand in operands]
