"""Requests that wait for one engine -> one run of its twin, where that gives the same answers.

A twin takes exactly `size` samples: what is missing is filled up with the last one, because an
interpreter that is given another extent allocates its tensors anew.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Golden
from edgeq.engines.base import BatchableEngine, Engine
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.swap.requests import Inputs, Outcome, infer
from edgeq.tflite.runtime import TensorSpec, ordered_inputs

Array = npt.NDArray[Any]


TIMED_RUNS = 5  # of either engine; the quickest counts, because a busy box only adds


@dataclass(frozen=True, eq=False)
class Together:
    """An engine's twin for several samples at a time."""

    engine: Engine
    size: int
    least: int  # requests from which on one run of the twin takes less than a run for each


def load_together(engine: Engine, golden: Golden | None, size: int) -> Together:
    """Return an engine's twin for `size` samples, proven and timed against the engine itself.

    Raises:
        EngineError: there can be none, its answers are others or it takes longer; says why.
    """
    if not isinstance(engine, BatchableEngine):
        raise EngineError(f"a {engine.kind} engine takes one sample at a time")
    if golden is None or not golden.inputs:
        raise EngineError("there are no golden answers to check it with")
    for spec in (*engine.inputs, *engine.outputs):
        if spec.shape[:1] != (1,):
            raise EngineError(f"{spec.name!r} has shape {list(spec.shape)}, not one sample's")
    together = engine.batched(size)
    try:
        _prove(engine, together, golden, size)
        return Together(together, size, _least(engine, together, golden, size))
    except BaseException:
        together.close()
        raise


def _prove(engine: Engine, together: Engine, golden: Golden, size: int) -> None:
    """Run every golden input at every place of the batch, among the others."""
    for spec, wide in zip(engine.outputs, together.outputs, strict=True):
        if wide.shape != (size, *spec.shape[1:]):
            raise EngineError(
                f"output {spec.name!r} of {size} samples has shape {list(wide.shape)}"
            )
    for turn in range(max(size, len(golden.inputs))):
        numbers = [(turn + place) % len(golden.inputs) for place in range(size)]
        answers = _run(engine.inputs, together, size, [golden.inputs[n] for n in numbers])
        one_by_one = Golden(
            tuple(golden.inputs[n] for n in numbers), tuple(golden.outputs[n] for n in numbers)
        )
        rest = iter(answers)
        if mismatch := one_by_one.mismatch(lambda _, rest=rest: next(rest)):  # type: ignore[misc]
            raise EngineError(f"together the answers are others: {mismatch}")


def _least(engine: Engine, together: Engine, golden: Golden, size: int) -> int:
    inputs = golden.inputs[0]
    alone_s = _quickest(lambda: engine.infer(inputs))
    together_s = _quickest(lambda: _run(engine.inputs, together, size, [inputs] * size))
    least = math.floor(together_s / alone_s) + 1
    if least > size:
        raise EngineError(
            f"{size} samples take {together_s * 1e3:.3f} ms together and "
            f"{size * alone_s * 1e3:.3f} ms one by one"
        )
    return max(2, least)


def _quickest(run: Callable[[], object]) -> float:
    def timed() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return min(timed() for _ in range(TIMED_RUNS))


def infer_together(engine: Engine, together: Together, requests: Sequence[Inputs]) -> list[Outcome]:
    """Run up to `size` requests at once; one that is malformed or fails leaves the others alone."""
    malformed = {
        number: error
        for number, inputs in enumerate(requests)
        if (error := _malformed(engine.inputs, inputs))
    }
    sound = [inputs for number, inputs in enumerate(requests) if number not in malformed]
    answers = iter(_infer_sound(engine, together, sound))
    return [malformed.get(number) or next(answers) for number in range(len(requests))]


def _infer_sound(
    engine: Engine, together: Together, requests: Sequence[Inputs]
) -> Sequence[Outcome]:
    if len(requests) > 1:
        # Whoever is to blame for a failure gets it as its own answer, below.
        with contextlib.suppress(Exception):
            return _run(engine.inputs, together.engine, together.size, requests)
    return [infer(engine, inputs) for inputs in requests]


def are_alike(one: Inputs, other: Inputs) -> bool:
    """Say whether two requests have the same shapes, and so may be stacked."""
    return one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)


def _malformed(specs: tuple[TensorSpec, ...], inputs: Inputs) -> InvalidRequestError | None:
    try:
        ordered_inputs(specs, inputs)
    except InvalidRequestError as error:
        return error
    return None


def _run(
    specs: tuple[TensorSpec, ...], together: Engine, size: int, requests: Sequence[Inputs]
) -> list[dict[str, Array]]:
    filled = [*requests, *[requests[-1]] * (size - len(requests))]
    stacked = {
        spec.name: np.concatenate([inputs[spec.name] for inputs in filled]) for spec in specs
    }
    outputs = together.infer(stacked)
    return [
        {name: value[place : place + 1] for name, value in outputs.items()}
        for place in range(len(requests))
    ]
