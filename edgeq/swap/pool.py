"""A version's loader -> its warm, checked engines, until the last request lets go of them."""

from __future__ import annotations

import contextlib
import ctypes
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Golden
from edgeq.engines.base import Engine, EngineKind
from edgeq.errors import SwapError
from edgeq.tflite.runtime import TensorSpec

Array = npt.NDArray[Any]


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


@dataclass(eq=False)
class Pool:
    """The engines of one version; the counters are guarded by the slot's lock."""

    source: Source
    engines: tuple[Engine, ...]
    info: LiveInfo
    watched: frozenset[str]  # outputs that should be finite
    idle: queue.LifoQueue[Engine]  # last in, first out: the engine whose memory is still warm
    references: int = 0  # jobs bound to this version, waiting or running
    is_orphaned: bool = False  # the drain timed out: whoever lets go last closes the engines
    requests: int = 0
    errors: int = 0
    nonfinite: int = 0

    @property
    def present(self) -> LiveInfo:
        """What serves, by the engine that answers now: the CPU's in the place of a failed GPU's."""
        for engine in self.engines:
            if engine.kind != self.info.engine:
                return replace(self.info, engine=engine.kind, fault=engine.fault)
        return self.info

    def is_finite(self, outputs: Mapping[str, Array]) -> bool:
        """Say whether all watched outputs are finite."""
        return all(
            bool(np.isfinite(value).all())
            for name, value in outputs.items()
            if name in self.watched
        )

    def close(self) -> None:
        """Free the engines; nobody may use them any more."""
        close_engines(self.engines)


def load_engines(source: Source, instances: int, warmup_runs: int) -> tuple[Engine, ...]:
    """Load, warm and check the engines of a version; on failure none is left behind.

    Raises:
        Exception: what the loader or an engine raised.
        SwapError: an engine does not reproduce the golden outputs.
    """
    engines: list[Engine] = []
    try:
        for _ in range(instances):
            engines.append(source.load())
            _prove(engines[-1], source.golden, warmup_runs)
    except BaseException:
        close_engines(engines)
        raise
    return tuple(engines)


def make_pool(source: Source, engines: tuple[Engine, ...]) -> Pool:
    """Return the pool of engines that are ready to serve from now on."""
    first = engines[0]
    idle: queue.LifoQueue[Engine] = queue.LifoQueue()
    for engine in engines:
        idle.put(engine)
    info = LiveInfo(source.version, first.kind, first.inputs, first.outputs, time.time())
    return Pool(source, engines, info, _watched(first.outputs, source.golden), idle)


def _watched(specs: Iterable[TensorSpec], golden: Golden | None) -> frozenset[str]:
    """Name the float outputs, but for those that are rightly infinite, e.g. of a log-softmax."""
    floats = frozenset(spec.name for spec in specs if spec.dtype.kind == "f")
    runs = golden.outputs if golden else ()
    return floats - {name for run in runs for name in run if not np.isfinite(run[name]).all()}


def _prove(engine: Engine, golden: Golden | None, warmup_runs: int) -> None:
    inputs = golden.inputs if golden and golden.inputs else (_zeros(engine.inputs),)
    for run in range(warmup_runs):
        engine.infer(inputs[run % len(inputs)])
    if golden and (mismatch := golden.mismatch(engine.infer)):
        raise SwapError(
            f"the {engine.kind} engine does not reproduce its golden answers: {mismatch}",
            hint="Build the bundle again on this box; its driver or runtime may have changed.",
        )


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
    # glibc keeps what is freed; OpenVINO Model Server trims after an unload too.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
