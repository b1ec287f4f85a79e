"""Float model + CalibrationTable -> INT8 model: a standard .tflite file.

Every activation of the float model has at most two forms in the result: the float tensor under its
own name, and an int8 twin named `<name>_int8`. Ops are rewritten in order; QUANTIZE and DEQUANTIZE
appear where an op needs the form that is not there yet, once per tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import QuantizeError
from edgeq.quantize.affine import per_tensor, quantize_bias, quantize_values, representable
from edgeq.quantize.compact import compact
from edgeq.quantize.plan import Plan, make_plan, optional_input
from edgeq.quantize.prepare import check_stateless, constant_values, is_quantized, prepare
from edgeq.quantize.scheme import CLIP_BOUNDS, READS_ANY_TYPE, Rule, Weights
from edgeq.quantize.sharing import activations, constant_parameters
from edgeq.tflite.model import Model, Quantization, indices

__all__ = ["FloatOp", "Quantized", "is_quantized", "quantize"]

Array = npt.NDArray[Any]
INT8_SUFFIX = "_int8"


@dataclass(frozen=True)
class FloatOp:
    """An op that stays float: its position and name in the given model, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Quantized:
    """The INT8 model; with `int8_ops` 0 it is the float model as it was given."""

    model: Model
    float_ops: tuple[FloatOp, ...]
    int8_ops: int

    @property
    def is_float(self) -> bool:
        """True where no op could become INT8."""
        return self.int8_ops == 0


def quantize(
    model: Model,
    table: CalibrationTable,
    *,
    float_ops: frozenset[int] = frozenset(),
    every_kernel: bool = False,
) -> Quantized:
    """Return the INT8 form of a float model; inputs and outputs stay as they are.

    Args:
        model: the float model; it is not changed.
        table: a range per activation, by the names that `model.names()` gives.
        float_ops: positions of ops that must stay float.
        every_kernel: INT8 also for ops that the CPU computes slower so: for an engine with
            kernels of its own.

    Raises:
        QuantizeError: the model is quantized already, or keeps state.
    """
    if is_quantized(model):
        raise QuantizeError(
            "the model's ops already exchange integers; quantizing takes a float model",
            hint="Use the model as it is, or drop the float model it was made from.",
        )
    check_stateless(model)
    prepared = prepare(model)
    asked = {new for new, old in enumerate(prepared.positions) if old in float_ops}
    plan = make_plan(prepared.model, table, asked, prepared.ranges, every_kernel=every_kernel)
    stays = tuple(
        FloatOp(prepared.positions[p], prepared.model.op_name(prepared.model.operators[p]), reason)
        for p, reason in sorted(plan.reasons.items())
    )
    if not plan.rules:
        return Quantized(model, stays, 0)
    names = model.names()
    _Writer(prepared.model, plan, names).write()
    compact(prepared.model)
    return Quantized(prepared.model, stays, len(plan.rules))


class _Writer:
    """Rewrites a model in place by a plan."""

    def __init__(self, model: Model, plan: Plan, names: list[str]) -> None:
        self._model = model
        self._plan = plan
        self._names = names
        self._written: list[Any] = []  # the new ops, in order
        self._twins: dict[int, int] = {}  # float activation -> its int8 twin, once it exists
        self._floats = {t for t in model.inputs if model.type_name(t) == "FLOAT32"}
        self._others: dict[tuple[Any, ...], int] = {}  # int8 forms by other parameters
        self._constants: dict[tuple[Any, ...], int] = {}
        self._taken = set(names)

    def write(self) -> None:
        produced = self._model.producers()
        self._floats |= {t for t in range(len(self._model.tensors)) if t not in produced}
        for position, operator in enumerate(list(self._model.operators)):
            rule = self._plan.rules.get(position)
            if rule is not None:
                self._write_int8(position, operator, rule)
            else:
                self._write_as_it_is(operator)
        for tensor in self._model.outputs:
            self._as_float(tensor)
        self._model.graph.operators = self._written

    # ---- ops

    def _write_as_it_is(self, operator: Any) -> None:
        any_type = self._model.op_name(operator) in READS_ANY_TYPE
        operator.inputs = np.asarray(
            [
                self._twins.get(t, t) if any_type and t not in self._floats else self._as_float(t)
                for t in indices(operator.inputs)
            ],
            np.int32,
        )
        self._floats.update(indices(operator.outputs))
        self._written.append(operator)

    def _write_int8(self, position: int, operator: Any, rule: Rule) -> None:
        data, outputs = activations(self._model, operator, rule)
        inputs = indices(operator.inputs)
        for slot in rule.data_positions(operator):
            if self._is_float(inputs[slot]):
                tensor, shared_with = inputs[slot], outputs or data
                inputs[slot] = self._as_int8(tensor, rule, shared_with)
                if (position, tensor) in self._plan.apart:
                    inputs[slot] = self._requantized(tensor, self._plan.activations[outputs[0]])
        if rule.weights is not None:
            inputs = self._with_weights(position, operator, rule.weights, inputs, data[0])
        operator.inputs = np.asarray(inputs, np.int32)
        name = self._model.op_name(operator)
        if name in CLIP_BOUNDS:
            self._write_clip(CLIP_BOUNDS[name], inputs[0], outputs[0])
            return
        version = max(
            rule.version, self._version(operator), self._version_by_scale(name, inputs, outputs)
        )
        operator.opcodeIndex = self._model.opcode_index(name, version)
        self._written.append(operator)
        operator.outputs = np.asarray(
            [self._new_output(t, rule) if t in outputs else t for t in indices(operator.outputs)],
            np.int32,
        )

    def _write_clip(self, bounds: tuple[float, float], tensor: int, target: int) -> None:
        """Write a RELU of its own as what int8 does anyway: it saturates where the scale ends.

        Nothing is left to do where no other op reads what it clips; then both have one scale.
        Its own kernel would take 380 us for 74,000 values, a QUANTIZE or MAXIMUM takes 5.
        """
        parameters = self._plan.activations[target]
        given = self._model.quantization(tensor)
        assert given is not None
        is_clipped = _ends_within(given, bounds) or _ends_within(parameters, bounds)
        if not _same(given, parameters):
            source, tensor = tensor, self._new_twin(target, parameters)
            self._written.append(self._model.make_operator("QUANTIZE", 2, [source], [tensor]))
        low, high = representable(parameters)
        for name, bound, lies_inside in (
            ("MAXIMUM", bounds[0], low < bounds[0]),
            ("MINIMUM", bounds[1], bounds[1] < high),
        ):
            if lies_inside and not is_clipped:
                clipped = self._new_twin(target, parameters)
                operands = [tensor, self._bound(target, bound, parameters)]
                self._written.append(self._model.make_operator(name, 2, operands, [clipped]))
                tensor = clipped
        self._twins[target] = tensor

    def _bound(self, target: int, bound: float, parameters: Quantization) -> int:
        level = quantize_values(np.array(bound, np.float32), parameters)
        name = self._unique(f"{self._names[target]}_bound{INT8_SUFFIX}")
        return self._model.add_tensor(name, (), "INT8", values=level, quantization=parameters)

    def _version(self, operator: Any) -> int:
        return int(self._model.proto.operatorCodes[operator.opcodeIndex].version)

    def _version_by_scale(self, name: str, inputs: list[int], outputs: list[int]) -> int:
        """MUL whose product step exceeds the output's is version 3."""
        if name != "MUL":
            return 1
        first, second = (self._scale(t) for t in inputs[:2])
        output = float(self._plan.activations[outputs[0]].scale[0])
        return 3 if first * second / output >= 1 else 2

    def _scale(self, tensor: int) -> float:
        return float(self._model.tensors[tensor].quantization.scale[0])

    # ---- activations

    def _is_float(self, tensor: int) -> bool:
        return tensor >= 0 and self._model.type_name(tensor) == "FLOAT32"

    def _as_float(self, tensor: int) -> int:
        """Return the float form, behind a DEQUANTIZE where only the int8 twin exists."""
        if tensor >= 0 and tensor in self._twins and tensor not in self._floats:
            self._written.append(
                self._model.make_operator("DEQUANTIZE", 2, [self._twins[tensor]], [tensor])
            )
            self._floats.add(tensor)
        return tensor

    def _as_int8(self, tensor: int, rule: Rule, shared_with: list[int]) -> int:
        """Return the int8 form: a quantized constant, the twin, or a QUANTIZE of the float."""
        if self._model.is_constant(tensor):
            parameters = (
                self._plan.activations[shared_with[0]]
                if rule.shares_scale
                else constant_parameters(self._model, tensor, rule)
            )
            return self._constant(tensor, parameters, narrow=rule.symmetric_constant)
        if tensor not in self._twins:
            self._twins[tensor] = self._new_twin(tensor, self._plan.activations[tensor])
            self._written.append(
                self._model.make_operator("QUANTIZE", 1, [tensor], [self._twins[tensor]])
            )
        return self._twins[tensor]

    def _requantized(self, tensor: int, parameters: Quantization) -> int:
        """Return an int8 form by other parameters than the twin's."""
        if _same(parameters, self._plan.activations[tensor]):
            return self._twins[tensor]
        key = _key(tensor, parameters)
        if key not in self._others:
            self._others[key] = self._new_twin(tensor, parameters)
            self._written.append(
                self._model.make_operator("QUANTIZE", 2, [self._twins[tensor]], [self._others[key]])
            )
        return self._others[key]

    def _new_output(self, tensor: int, rule: Rule) -> int:
        """Return what the op writes: the twin, or a tensor with parameters its kernel demands."""
        wanted = self._plan.activations[tensor]
        twin = self._twins[tensor] = self._new_twin(tensor, wanted)
        if rule.fixed_output is None:
            return twin
        demanded = per_tensor(*rule.fixed_output)
        if _same(demanded, wanted):
            return twin
        written = self._new_twin(tensor, demanded)
        self._written.append(self._model.make_operator("QUANTIZE", 2, [written], [twin]))
        return written

    def _new_twin(self, tensor: int, parameters: Quantization) -> int:
        original = self._model.tensors[tensor]
        return self._model.add_tensor(
            self._unique(f"{self._names[tensor]}{INT8_SUFFIX}"),
            self._model.shape(tensor),
            "INT8",
            quantization=parameters,
            shape_signature=original.shapeSignature,
        )

    # ---- constants

    def _with_weights(
        self, position: int, operator: Any, weights: Weights, inputs: list[int], data: int
    ) -> list[int]:
        parameters = self._plan.weights[position]
        inputs = list(inputs)
        inputs[weights.position] = self._constant(inputs[weights.position], parameters, narrow=True)
        bias = optional_input(operator, weights.bias)
        if bias >= 0:
            inputs[weights.bias] = self._bias(bias, parameters, data)
        return inputs

    def _bias(self, bias: int, weights: Quantization, data: int) -> int:
        input_scale = float(self._plan.activations[data].scale[0])
        levels, parameters = quantize_bias(constant_values(self._model, bias), weights, input_scale)
        return self._store(bias, f"{self._names[bias]}_int32", levels, "INT32", parameters)

    def _constant(self, tensor: int, parameters: Quantization, *, narrow: bool) -> int:
        levels = quantize_values(constant_values(self._model, tensor), parameters, narrow=narrow)
        return self._store(tensor, self._constant_name(tensor), levels, "INT8", parameters)

    def _constant_name(self, tensor: int) -> str:
        known = tensor < len(self._names)
        return (self._names[tensor] if known else self._model.name(tensor)) + INT8_SUFFIX

    def _store(
        self, tensor: int, name: str, levels: Array, type_name: str, parameters: Quantization
    ) -> int:
        """Return a constant tensor; ops that need the same values by the same scale share one."""
        key = _key(tensor, parameters)
        if key not in self._constants:
            self._constants[key] = self._model.add_tensor(
                self._unique(name), levels.shape, type_name, values=levels, quantization=parameters
            )
        return self._constants[key]

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate


def _ends_within(parameters: Quantization, bounds: tuple[float, float]) -> bool:
    """True where int8 holds nothing beyond the bounds, but for a rounding."""
    half = float(parameters.scale[0]) / 2
    low, high = representable(parameters)
    return low >= bounds[0] - half and high <= bounds[1] + half


def _key(tensor: int, parameters: Quantization) -> tuple[Any, ...]:
    scale, zero_point = parameters.scale.tobytes(), parameters.zero_point.tobytes()
    return tensor, scale, zero_point, parameters.axis


def _same(first: Quantization, second: Quantization) -> bool:
    return bool(
        np.array_equal(first.scale, second.scale)
        and np.array_equal(first.zero_point, second.zero_point)
    )
