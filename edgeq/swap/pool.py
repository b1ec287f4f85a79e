"""A version's loader -> its warm, checked engines, until the last request lets go of them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeq import allocator
from edgeq.bundle import Golden
from edgeq.engines.base import Engine, EngineKind
from edgeq.errors import EngineError, SwapError
from edgeq.swap.batching import Together, load_together
from edgeq.swap.options import SwapOptions
from edgeq.swap.requests import Outcome, Waiting
from edgeq.tflite.runtime import TensorSpec

Array = npt.NDArray[Any]

NEWEST_SHARE = 0.1  # of the mean inference time: about ten inferences are remembered


@dataclass(frozen=True)
class Source:
    """How to make the engines of a version, now or again."""

    version: str
    load: Callable[[], Engine]
    golden: Golden | None


@dataclass(frozen=True)
class LiveInfo:
    """What serves now; `since` in seconds since the epoch."""

    version: str
    engine: EngineKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    since: float
    fault: str = ""  # why another engine answers than the one that was published
    batching: str = ""  # whether requests run together, or why not; "" where nobody asked for it


class AtWork(NamedTuple):
    """The worker thread that runs an engine, and the requests that it answers."""

    worker: threading.Thread
    begun: Sequence[Waiting]
    late: Sequence[Waiting]  # not run: they had waited too long


@dataclass(eq=False)
class Instance:
    """An engine, and its twin for several requests at a time where there is one."""

    engine: Engine
    together: Together | None = None  # where requests may run together
    busy_since: float = 0.0  # time.monotonic() at which the present run began; 0: it is idle
    at_work: AtWork | None = None  # None while it runs on its caller's thread
    is_given_up: bool = False  # its run hangs: nobody waits for it, and nobody else may use it

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All that has to be closed."""
        return (self.engine,) if self.together is None else (self.engine, self.together.engine)


class Tally(NamedTuple):
    """What came of requests that ran; malformed ones do not count."""

    answers: int
    errors: int  # the engine failed
    nonfinite: int  # answers with NaN or infinity where the golden outputs have none


@dataclass(eq=False)
class Pool:
    """The engines of one version; what changes is guarded by the slot's lock."""

    source: Source
    instances: tuple[Instance, ...]
    info: LiveInfo
    watched: frozenset[str]  # outputs that should be finite
    typical_s: float  # what an inference takes: a mean in which the latest count most; inf: unknown
    latest_s: float  # what the latest one took
    requests: int = 0
    errors: int = 0
    nonfinite: int = 0

    @property
    def present(self) -> LiveInfo:
        """What serves, by the engine that answers now: the CPU's in the place of a failed GPU's."""
        for instance in self.instances:
            if instance.engine.kind != self.info.engine:
                engine = instance.engine
                return replace(self.info, engine=engine.kind, fault=engine.fault)
        return self.info

    def is_quicker_than(self, seconds: float) -> bool:
        """Say whether the next inference may be expected to take less."""
        return self.typical_s < seconds and self.latest_s < seconds

    def tally(self, outcomes: Sequence[Outcome]) -> Tally:
        """Count what came of requests that ran."""
        answers = errors = nonfinite = 0
        for outcome in outcomes:
            if isinstance(outcome, dict):
                answers += 1
                nonfinite += not self.is_finite(outcome)
            else:
                errors += isinstance(outcome, EngineError)
        return Tally(answers, errors, nonfinite)

    def note(self, tally: Tally) -> None:
        """Take what came of a run into account."""
        self.requests += tally.answers + tally.errors
        self.errors += tally.errors
        self.nonfinite += tally.nonfinite

    def time(self, answers: int, infer_s: float) -> None:
        """Take into account how long a run lasted that gave so many answers."""
        if answers:
            self.latest_s = infer_s / answers
            former_s = self.typical_s if math.isfinite(self.typical_s) else self.latest_s
            self.typical_s = former_s + NEWEST_SHARE * (self.latest_s - former_s)

    def is_finite(self, outputs: Mapping[str, Array]) -> bool:
        """Say whether all watched outputs are finite."""
        return not self.watched or all(
            bool(np.isfinite(value).all())
            for name, value in outputs.items()
            if name in self.watched
        )

    def close(self) -> None:
        """Free the engines; nobody may use them any more."""
        close_engines(engine for instance in self.instances for engine in instance.engines)


def load_pool(source: Source, options: SwapOptions) -> Pool:
    """Load, warm and check the engines of a version; on failure none is left behind.

    Raises:
        Exception: what the loader or an engine raised.
        SwapError: an engine does not reproduce the golden outputs.
    """
    instances: list[Instance] = []
    infer_s = 0.0
    try:
        for _ in range(options.instances):
            instances.append(Instance(source.load()))
            infer_s = _prove(instances[-1].engine, source.golden, options.warmup_runs)
        batching = ""
        if options.max_batch > 1:
            batching = _let_run_together(instances, source.golden, options.max_batch)
    except BaseException:
        close_engines(engine for instance in instances for engine in instance.engines)
        raise
    return _make_pool(source, tuple(instances), infer_s, batching)


def _make_pool(
    source: Source, instances: tuple[Instance, ...], infer_s: float, batching: str
) -> Pool:
    first = instances[0].engine
    info = LiveInfo(
        source.version, first.kind, first.inputs, first.outputs, time.time(), first.fault, batching
    )
    watched = _watched(first.outputs, source.golden)
    return Pool(source, instances, info, watched, infer_s, infer_s)


def _let_run_together(instances: list[Instance], golden: Golden | None, size: int) -> str:
    """Give every instance its twin, or none; returns what `LiveInfo.batching` says."""
    twins: list[Together] = []
    try:
        for instance in instances:
            twins.append(load_together(instance.engine, golden, size))
    except EngineError as error:
        close_engines(twin.engine for twin in twins)
        return f"off: {error.message}"
    instances[:] = [
        Instance(instance.engine, twin) for instance, twin in zip(instances, twins, strict=True)
    ]
    least = max(twin.least for twin in twins)
    return f"{size if least == size else f'{least} to {size}'} requests run together"


def _watched(specs: Iterable[TensorSpec], golden: Golden | None) -> frozenset[str]:
    """Name the float outputs, but for those that are rightly infinite, e.g. of a log-softmax."""
    floats = frozenset(spec.name for spec in specs if spec.dtype.kind == "f")
    runs = golden.outputs if golden else ()
    return floats - {name for run in runs for name in run if not np.isfinite(run[name]).all()}


def _prove(engine: Engine, golden: Golden | None, warmup_runs: int) -> float:
    """Warm an engine up and compare its answers; returns the seconds of its latest inference."""
    latest_s = float("inf")  # of one that never ran

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        nonlocal latest_s
        started = time.monotonic()
        outputs = engine.infer(inputs)
        latest_s = time.monotonic() - started
        return outputs

    inputs = golden.inputs if golden and golden.inputs else (_zeros(engine.inputs),)
    for number in range(warmup_runs):
        run(inputs[number % len(inputs)])
    if golden and (mismatch := golden.mismatch(run)):
        raise SwapError(
            f"the {engine.kind} engine does not reproduce its golden answers: {mismatch}",
            hint="Build the bundle again on this box; its driver or runtime may have changed.",
        )
    return latest_s


def _zeros(specs: Iterable[TensorSpec]) -> dict[str, Array]:
    return {
        spec.name: np.zeros([1 if extent < 0 else extent for extent in spec.shape], spec.dtype)
        for spec in specs
    }


def close_engines(engines: Iterable[Engine]) -> None:
    """Free engines that nobody uses any more, and give their memory back to the system."""
    for engine in engines:
        # One that cannot free itself must not undo a swap that has happened, nor keep the others.
        with contextlib.suppress(Exception):
            engine.close()
    allocator.trim()
