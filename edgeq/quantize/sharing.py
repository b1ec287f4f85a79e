"""Ranges per activation + the ops chosen for INT8 -> affine parameters per activation.

Activations that a kernel handles with one scale form a group (union-find over tensors); a group's
range is the union of its members', or a fixed output's parameters where those cover it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.quantize.affine import (
    activation_parameters,
    per_tensor,
    representable,
    symmetric_parameters,
)
from edgeq.quantize.prepare import constant_values
from edgeq.quantize.ranges import Range, union
from edgeq.quantize.scheme import Rule
from edgeq.tflite.model import Model, Quantization, indices

Cut = tuple[int, int]  # op position, and one of its inputs, which it reads by another scale


@dataclass(frozen=True)
class Group:
    """Tensors with one scale, and what they need: ranges, and parameters that kernels demand."""

    members: tuple[int, ...]
    free_range: Range | None
    fixed_range: Range | None  # of the outputs whose kernels demand parameters
    fixed: frozenset[tuple[float, int]]


def shared_parameters(
    model: Model,
    rules: Mapping[int, Rule],
    ranges: Mapping[int, Range],
    apart: Collection[Cut] = (),
) -> dict[int, Quantization]:
    """Return the parameters of every activation that an op in `rules` reads or writes in INT8.

    An input in `apart` keeps a scale of its own: its op reads it requantized.
    """
    parameters: dict[int, Quantization] = {}
    sharing = _Sharing(model, ranges)
    for position, rule in rules.items():
        own = {tensor for at, tensor in apart if at == position}
        sharing.add(model.operators[position], rule, own)
    for group in sharing.groups():
        chosen = _group_parameters(group)
        if chosen is not None:
            parameters |= dict.fromkeys(group.members, chosen)
    return parameters


def activations(model: Model, operator: Any, rule: Rule) -> tuple[list[int], list[int]]:
    """Return the op's float activations that become INT8: inputs (no constants) and outputs."""
    inputs = indices(operator.inputs)
    data = [inputs[p] for p in rule.data_positions(operator) if inputs[p] >= 0]
    data = [t for t in data if model.type_name(t) == "FLOAT32" and not model.is_constant(t)]
    outputs = [t for t in indices(operator.outputs) if model.type_name(t) == "FLOAT32"]
    return data, outputs


def float_constants(model: Model, operator: Any, rule: Rule) -> list[int]:
    """Return the op's data inputs whose values the file holds."""
    inputs = indices(operator.inputs)
    data = [inputs[p] for p in rule.data_positions(operator)]
    return [t for t in data if model.is_constant(t) and model.type_name(t) == "FLOAT32"]


def constant_parameters(model: Model, index: int, rule: Rule) -> Quantization:
    """Return the parameters of a float constant that an op reads as an activation of its own."""
    if rule.symmetric_constant:
        return symmetric_parameters(constant_values(model, index))
    return activation_parameters(*constant_range(model, index))


class _Sharing:
    """Union-find over activations, with what each of them needs."""

    def __init__(self, model: Model, ranges: Mapping[int, Range]) -> None:
        self.model = model
        self.ranges = dict(ranges)
        self.fixed: dict[int, tuple[float, int]] = {}
        self._parent: dict[int, int] = {}

    def root(self, tensor: int) -> int:
        parent = self._parent
        parent.setdefault(tensor, tensor)
        while parent[tensor] != tensor:
            parent[tensor] = parent[parent[tensor]]
            tensor = parent[tensor]
        return tensor

    def add(self, operator: Any, rule: Rule, apart: Collection[int] = ()) -> None:
        """Take in one INT8 op: its activations, its fixed output, the scale it shares."""
        data, outputs = activations(self.model, operator, rule)
        for tensor in [*data, *outputs]:
            self.root(tensor)
        if rule.fixed_output is not None:
            self.fixed |= dict.fromkeys(outputs, rule.fixed_output)
        if rule.shares_scale and (touched := [t for t in [*data, *outputs] if t not in apart]):
            for tensor in touched[1:]:
                self._parent[self.root(tensor)] = self.root(touched[0])
            self._widen(touched[0], [self.ranges[t] for t in apart if t in self.ranges])
            if rule.covers_constants:
                constants = float_constants(self.model, operator, rule)
                self._widen(touched[0], [constant_range(self.model, t) for t in constants])

    def _widen(self, tensor: int, spans: list[Range]) -> None:
        """Widen the range of the tensor's group to hold these."""
        known = [self.ranges[tensor]] if tensor in self.ranges else []
        if spans:
            self.ranges[tensor] = union([*known, *spans])

    def groups(self) -> list[Group]:
        """Return the groups, each with all it needs."""
        members: dict[int, list[int]] = {}
        for tensor in self._parent:
            members.setdefault(self.root(tensor), []).append(tensor)
        return [self._group(tensors) for tensors in members.values()]

    def _group(self, tensors: list[int]) -> Group:
        fixed = frozenset(self.fixed[t] for t in tensors if t in self.fixed)
        free = [self.ranges[t] for t in tensors if t in self.ranges and t not in self.fixed]
        held = [self.ranges[t] for t in tensors if t in self.ranges and t in self.fixed]
        return Group(
            tuple(tensors), union(free) if free else None, union(held) if held else None, fixed
        )


def _group_parameters(group: Group) -> Quantization | None:
    """Return fixed parameters where they cover the group, else those of its range."""
    if len(group.fixed) == 1:
        scale, zero_point = next(iter(group.fixed))
        fixed = per_tensor(scale, zero_point)
        low, high = representable(fixed)
        free = group.free_range or (0.0, 0.0)
        if free[0] >= low - scale and free[1] <= high + scale:
            return fixed
    spans = [span for span in (group.free_range, group.fixed_range) if span is not None]
    if not spans:
        return None
    return activation_parameters(*union(spans))


def constant_range(model: Model, index: int) -> Range:
    """Return the range of a float constant, widened to hold 0."""
    values = constant_values(model, index)
    return float(values.min(initial=0.0)), float(values.max(initial=0.0))
