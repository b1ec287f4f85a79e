"""One op of a model, in float and in INT8 -> how long each takes alone on this box."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import EngineError
from edgeq.quantize.convert import INT8_SUFFIX
from edgeq.quantize.prepare import prepare
from edgeq.tflite.model import DTYPES, Model, indices
from edgeq.tflite.part import one_op
from edgeq.tflite.runtime import Runner

Array = npt.NDArray[Any]

RUNS = 21  # of each form, in turns; their median counts
INTEGER_REACH = 64  # random integers: what an op computes on does not change its time


@dataclass(frozen=True)
class OpLatency:
    """Milliseconds of one inference of the op alone."""

    float_ms: float
    int8_ms: float


def op_latency(model: Model, int8: Model, index: int, *, threads: int = 1) -> OpLatency | None:
    """Time the op at `index` of the float model beside its INT8 form.

    Returns None where `int8` has no such form, or an extent is known at run time only. The
    QUANTIZE and DEQUANTIZE that a float op brings among INT8 ones are not in its time.
    """
    prepared = prepare(model)
    if index not in prepared.positions:
        return None
    operator = prepared.model.operators[prepared.positions.index(index)]
    twin = _twin(int8, f"{prepared.model.names()[indices(operator.outputs)[0]]}{INT8_SUFFIX}")
    if twin is None or int8.op_name(twin) != prepared.model.op_name(operator):  # a QUANTIZE
        return None
    with contextlib.ExitStack() as runners:
        try:
            forms = [
                _runnable(runners, own, op, threads)
                for own, op in ((prepared.model, operator), (int8, twin))
            ]
        except EngineError:  # not alone: with a state, or a shape known at run time only
            return None
        float_ms, int8_ms = _in_turns(forms)
    return OpLatency(float_ms, int8_ms)


def _twin(int8: Model, name: str) -> Any | None:
    """Return the op that writes the tensor of this name."""
    names, producers = int8.names(), int8.producers()
    position = producers.get(names.index(name)) if name in names else None
    return None if position is None else int8.operators[position]


def _runnable(
    runners: contextlib.ExitStack, model: Model, operator: Any, threads: int
) -> Callable[[], object]:
    fed = [t for t in dict.fromkeys(indices(operator.inputs)) if t >= 0 and t in _written(model)]
    part, tensors = one_op(model, operator, {tensor: model.shape(tensor) for tensor in fed})
    runner = runners.enter_context(contextlib.closing(Runner(part.to_bytes(), threads=threads)))
    inputs = {
        spec.name: _drawn(model, tensor)
        for spec, tensor in zip(runner.inputs, tensors, strict=True)
    }
    return lambda: runner.run(inputs)


def _written(model: Model) -> set[int]:
    return {*model.inputs, *model.producers()}


def _drawn(model: Model, tensor: int) -> Array:
    draw, dtype = np.random.default_rng(tensor), DTYPES[model.type_name(tensor)]
    shape = model.shape(tensor)
    if any(extent < 1 for extent in shape):
        raise EngineError(f"tensor {model.name(tensor)!r} has the shape {list(shape)}")
    if dtype.kind == "f":
        return draw.normal(size=shape).astype(dtype)
    return draw.integers(-INTEGER_REACH, INTEGER_REACH, shape).astype(dtype)


def _in_turns(forms: list[Callable[[], object]]) -> list[float]:
    times: list[list[float]] = [[] for _ in forms]
    for _ in range(RUNS):
        for run, seconds in zip(forms, times, strict=True):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return [1e3 * statistics.median(seconds) for seconds in times]
