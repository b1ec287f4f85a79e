"""Float model, INT8 model and a few inputs -> how far each op's result is from float, and why."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from edgeq.calibrate.table import CalibrationTable
from edgeq.explain.comparison import COPIES, Comparison, Range, Scale
from edgeq.explain.explanation import LayerExplanation
from edgeq.explain.forced import forced
from edgeq.explain.injected import Errors, Injection, most_inputs
from edgeq.explain.twins import float_sources, twin_of
from edgeq.explain.weights import weight_spreads
from edgeq.quantize.affine import dequantize_values, representable
from edgeq.quantize.ranges import activation_ranges
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap
from edgeq.verify import decibels

Array = npt.NDArray[Any]
Inputs = Mapping[str, Array]
Values = dict[int, Array]  # by tensor

EXACT_DB = 100.0  # beyond it, float kernels differ among themselves
DIGITS = 6


def explain_layers(
    model: Model, int8: Model, table: CalibrationTable, inputs: Sequence[Inputs], threads: int
) -> tuple[LayerExplanation, ...]:
    """Return every op of `int8` that writes an int8 activation, in execution order.

    `model` is the float model as `prepare` left it for the quantizer.

    Raises:
        EngineError, InvalidRequestError: the models cannot be run on these inputs.
    """
    sources = float_sources(model, int8)
    scales = _scales(model, int8, table, sources)
    compared = {tensor: Comparison(scales[tensor]) for _, tensor in _written(int8, sources)}
    seen: list[tuple[Inputs, Errors]] = []
    with contextlib.closing(_Measured(model, int8, sources, threads)) as measured:
        for given in inputs:
            errors = measured.compare(given, compared)
            if len(seen) < most_inputs(errors):  # they are as large as all activations
                seen.append((given, errors))
    with contextlib.closing(Injection(model, threads)) as injection:
        for given, errors in seen:
            injection.add(given, errors)
        shares = injection.shares()
    names, spreads = model.names(), weight_spreads(model)
    layers = []
    for share, (index, tensor) in zip(shares, _written(int8, sources), strict=True):
        op, source = int8.op_name(int8.operators[index]), sources[tensor]
        spread = 1.0 if op in COPIES else spreads.get(source, 1.0)
        layers.append(_layer(op, index, names[source], compared[tensor], share, spread))
    return tuple(layers)


def _written(int8: Model, sources: Mapping[int, int]) -> list[tuple[int, int]]:
    """Return every int8 activation that an op writes, behind the op's position, in order."""
    return [
        (index, tensor)
        for index, operator in enumerate(int8.operators)
        for tensor in indices(operator.outputs)
        if tensor in sources and int8.type_name(tensor) == "INT8"
    ]


def _scales(
    model: Model, int8: Model, table: CalibrationTable, sources: Mapping[int, int]
) -> dict[int, Scale]:
    """Return what is needed to compare each int8 activation."""
    read, scales = _read_ranges(model, table), {}
    for tensor, source in sources.items():
        parameters = int8.quantization(tensor)
        if parameters is not None:
            step, holds = float(parameters.scale[0]), representable(parameters)
            scales[tensor] = Scale(step, holds, read.get(source, (-math.inf, math.inf)))
    return scales


def _read_ranges(model: Model, table: CalibrationTable) -> dict[int, Range]:
    """Return what each tensor's readers tell apart, where that is less than its range."""
    names, read = model.names(), {}
    for tensor, (low, high) in activation_ranges(model, table).items():
        row = table.tensors[names[tensor]]
        read[tensor] = (
            low if low > row.lo else -math.inf,
            high if high < row.hi else math.inf,
        )
    return read


class _Shown:
    """A model that shows some of its activations."""

    def __init__(self, tapped: Model, chosen: Sequence[int], threads: int) -> None:
        self._runner = Runner(tapped.to_bytes(), threads=threads)
        self._chosen = chosen

    def run(self, inputs: Inputs) -> Values:
        """Return views: they must be gone before the next run."""
        return dict(zip(self._chosen, self._runner.run_in_place(inputs), strict=True))

    def close(self) -> None:
        self._runner.close()


class _Measured:
    """Both models with all activations shown, and the forced one."""

    def __init__(self, model: Model, int8: Model, sources: Mapping[int, int], threads: int) -> None:
        self._model, self._int8, self._sources, self._threads = model, int8, sources, threads
        self._standing = _standing(model, int8, sources)
        tapped, chosen = tap(model, sorted(set(sources.values())))
        self._float = _Shown(tapped, chosen, threads)
        tapped, chosen = tap(int8, list(sources))
        self._quantized = _Shown(tapped, chosen, threads)
        self._forced: _Shown | None = None  # it needs to know real shapes
        self._fed: dict[str, int] = {}

    def compare(self, inputs: Inputs, compared: Mapping[int, Comparison]) -> Errors:
        """Run one input through all three, add what they show, and return each op's own error."""
        expected = self._float.run(inputs) | _given(self._model, inputs)
        levels = self._quantized.run(inputs)
        actual = {t: self._dequantized(t, v) for t, v in levels.items()}
        actual |= _given(self._int8, inputs)
        alone = self._run_forced(inputs, actual)
        errors = []
        for position, tensor in _written(self._int8, self._sources):
            source = self._sources[tensor]
            passed = self._passed(position, tensor, actual, alone)
            compared[tensor].add(expected[source], actual[tensor], passed)
            errors.append((source, actual[tensor] - passed))
        return errors

    def _dequantized(self, tensor: int, values: Array) -> Array:
        parameters = self._int8.quantization(tensor)
        return values if parameters is None else dequantize_values(values, parameters)

    def _run_forced(self, inputs: Inputs, actual: Values) -> Values:
        """Return what each op of the float model makes of the INT8 model's activations."""
        if self._forced is None:
            ours = set(self._standing) - set(self._model.inputs)
            shapes = {tensor: actual[self._standing[tensor]].shape for tensor in sorted(ours)}
            wanted = sorted({s for s in self._sources.values() if s not in self._model.inputs})
            tapped, self._fed = forced(self._model, shapes, wanted)
            self._fed |= _named(self._model, self._model.inputs)
            self._forced = _Shown(tapped, wanted, self._threads)
        standing = self._standing
        fed = {n: actual[standing[t]] for n, t in self._fed.items() if t in standing}
        return self._forced.run({**inputs, **fed})

    def _passed(self, position: int, tensor: int, actual: Values, alone: Values) -> Array:
        """Return what the op would have written in float, given what it reads."""
        operator = self._int8.operators[position]
        if self._int8.op_name(operator) in COPIES:
            return actual.get(indices(operator.inputs)[0], actual[tensor])
        return alone[self._sources[tensor]]

    def close(self) -> None:
        for shown in (self._float, self._quantized, self._forced):
            if shown is not None:
                shown.close()


def _standing(model: Model, int8: Model, sources: Mapping[int, int]) -> dict[int, int]:
    """Return what stands for each activation of the float model: its int8 twin, if it has one."""
    floats = {source: tensor for tensor, source in sources.items()}
    return floats | {t: twin for t, twin in twin_of(model, int8).items() if twin in sources}


def _given(model: Model, inputs: Inputs) -> Values:
    return {tensor: inputs[name] for name, tensor in _named(model, model.inputs).items()}


def _named(model: Model, tensors: Sequence[int]) -> dict[str, int]:
    names = model.names()
    return {names[tensor]: tensor for tensor in tensors}


def _layer(
    op: str, index: int, name: str, compared: Comparison, share: float, spread: float
) -> LayerExplanation:
    low, high = compared.saturated_ratios
    sqnr_db = decibels(compared.signal, compared.noise)
    passed_db = decibels(compared.signal, compared.passed)
    return LayerExplanation(
        index=index,
        op=op,
        tensor=name,
        sqnr_db=_rounded(sqnr_db),
        entered_db=_rounded(passed_db - sqnr_db) if passed_db < EXACT_DB else None,
        entered=_rounded(compared.noise_ratio - compared.passed_ratio),
        share=_rounded(share),
        shift=_rounded(compared.shift),
        saturated_low=_rounded(low),
        saturated_high=_rounded(high),
        saturated=_rounded(compared.saturated),
        rounding=_rounded(compared.rounding),
        channel_spread=_rounded(compared.channel_spread),
        weight_spread=_rounded(spread),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
