"""Requests and new versions of one model -> answers: queue, flip, drain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

from edgeq.bundle import Golden
from edgeq.engines.base import Engine, EngineKind
from edgeq.errors import (
    DeadlineError,
    EdgeqError,
    EngineError,
    RequestError,
    SwapError,
    UnavailableError,
)
from edgeq.swap.pool import LiveInfo, Pool, Source, load_engines, make_pool
from edgeq.swap.probation import Health

Array = npt.NDArray[Any]
Policy = Literal["load-then-drop", "drop-then-load"]


@dataclass(frozen=True)
class SwapOptions:
    """How a slot serves and swaps; the policies are TensorFlow Serving's two.

    'load-then-drop' never stops serving; 'drop-then-load' is for models of which two do not fit
    in memory, and answers `UnavailableError` while it loads.
    """

    policy: Policy = "load-then-drop"
    instances: int = 1  # engines of a version, and so inferences at a time
    queue_size: int = 64  # requests that may wait beyond those that run
    warmup_runs: int = 3  # of each engine, before it serves
    drain_timeout_s: float = 30.0


@dataclass(frozen=True)
class Inference:
    """The answer to one request, and who gave it."""

    outputs: dict[str, Array]
    version: str
    engine: EngineKind


@dataclass(frozen=True)
class InferRecord:
    """One request that an engine ran: how long it waited and ran, and whether the engine failed."""

    name: str
    version: str
    engine: EngineKind
    queue_s: float
    infer_s: float
    error: bool


@dataclass(eq=False)
class _Job:
    """A request, bound to the version that will answer it."""

    pool: Pool
    inputs: Mapping[str, Array]
    submitted: float
    deadline: float
    future: Future[Inference] = field(default_factory=Future)


class Slot:
    """One model's place to be served from; no lock is held while an engine is loaded or runs.

    Args:
        executor_factory: makes the executor that runs the requests, with at least as many threads
            as the number it is given; the slot shuts it down.
        on_infer: told of every inference, on the executor's thread; must not raise.
    """

    def __init__(
        self,
        name: str,
        options: SwapOptions,
        executor_factory: Callable[[int], Executor],
        on_infer: Callable[[InferRecord], None],
    ) -> None:
        self.name = name
        self._options = options
        self._executor = executor_factory(options.instances)
        self._on_infer = on_infer
        self._turn = threading.Lock()  # publish and close, one at a time; no request takes it
        self._lock = threading.Lock()  # everything below, and the pools' counters
        self._let_go = threading.Condition(self._lock)
        self._live: Pool | None = None
        self._waiting: set[_Job] = set()
        self._outstanding = 0  # waiting and running, of all versions
        self._is_closing = False

    @property
    def live(self) -> LiveInfo | None:
        """What serves now, or None."""
        pool = self._live
        return pool.present if pool else None

    @property
    def queue_length(self) -> int:
        """Requests that wait for an engine."""
        return len(self._waiting)

    @property
    def health(self) -> Health:
        """What the live version did since it was published; zeros where nothing serves."""
        with self._lock:
            pool = self._live
            return Health(pool.requests, pool.errors, pool.nonfinite) if pool else Health()

    def submit(
        self, inputs: Mapping[str, Array], *, timeout_s: float | None = None
    ) -> Future[Inference]:
        """Queue a request for the version that is live now, which will answer it.

        The future fails with DeadlineError where the request waited longer than `timeout_s`, and
        with what the engine raised; it may be cancelled while it waits.

        Raises:
            UnavailableError: nothing serves, the queue is full, or the slot is closing.
        """
        now = time.monotonic()
        deadline = float("inf") if timeout_s is None else now + timeout_s
        with self._lock:
            job = _Job(self._admitting(), inputs, now, deadline)
            job.pool.references += 1
            self._outstanding += 1
            self._waiting.add(job)
        try:
            self._executor.submit(self._run, job)
        except RuntimeError as error:  # it was shut down meanwhile, or can start no thread
            self._fail(job, UnavailableError(f"model {self.name!r} cannot run: {error}"))
        return job.future

    def publish(
        self,
        version: str,
        load: Callable[[], Engine],
        golden: Golden | None,
        *,
        policy: Policy | None = None,
    ) -> float:
        """Make `version` the live one; returns the seconds that it took, the drain included.

        `load` is called once for each instance, and again should a later 'drop-then-load' fail.
        Concurrent calls take turns. Requests that still hold the old version when the drain
        times out keep its engines until they end.

        Args:
            policy: for this swap only; None takes the options'.

        Raises:
            SwapError: loading, warm-up or the golden check failed (its cause), or the slot is
                closing; what was live is live.
        """
        started = time.monotonic()
        source = Source(version, load, golden)
        with self._turn:
            if (policy or self._options.policy) == "load-then-drop":
                self._flip(self._load(source))
            else:
                self._drop_then_load(source)
        return time.monotonic() - started

    def close(self) -> None:
        """Refuse new requests, answer those inside until the drain timeout, free the engines."""
        with self._lock:
            self._is_closing = True
        with self._turn:
            pool = self._set_live(None)
            is_drained = self._wait_until(lambda: self._outstanding == 0)
            if not is_drained:
                self._fail_waiting()
            if pool:
                self._retire(pool)
            self._executor.shutdown(wait=is_drained, cancel_futures=True)

    # Swapping: on the publisher's thread, which has the turn.

    def _load(self, source: Source) -> Pool:
        try:
            if self._is_closing:
                raise UnavailableError("the slot is closing")
            engines = load_engines(source, self._options.instances, self._options.warmup_runs)
        except Exception as error:
            raise SwapError(
                f"version {source.version} of model {self.name!r} was not published: {error}",
                hint=error.hint if isinstance(error, EdgeqError) else "",
            ) from error
        return make_pool(source, engines)

    def _flip(self, pool: Pool) -> None:
        old = self._set_live(pool)
        if old:
            self._wait_until(lambda: old.references == 0)
            self._retire(old)

    def _drop_then_load(self, source: Source) -> None:
        old = self._set_live(None)
        if old and not self._wait_until(lambda: old.references == 0):
            self._set_live(old)
            raise SwapError(
                f"version {source.version} of model {self.name!r} was not published: version "
                f"{old.source.version} still ran after {self._options.drain_timeout_s} s",
                hint="Raise swap.drain_timeout_s, or use the policy load-then-drop.",
            )
        if old:
            self._retire(old)
        try:
            self._flip(self._load(source))
        except SwapError as error:
            if old:
                self._restore(old.source, error)
            raise

    def _restore(self, source: Source, reason: SwapError) -> None:
        try:
            self._flip(self._load(source))
        except SwapError as error:
            raise SwapError(
                f"{reason}; and what served before is gone: {error}", hint=error.hint
            ) from reason

    def _set_live(self, pool: Pool | None) -> Pool | None:
        with self._lock:
            old, self._live = self._live, pool
            return old

    def _wait_until(self, is_drained: Callable[[], bool]) -> bool:
        with self._lock:
            return self._let_go.wait_for(is_drained, self._options.drain_timeout_s)

    def _retire(self, pool: Pool) -> None:
        """Close the engines now, or leave that to the request that lets go of them last."""
        with self._lock:
            pool.is_orphaned = pool.references > 0
        if not pool.is_orphaned:
            pool.close()

    # Requests: on the callers' and the executor's threads.

    def _admitting(self) -> Pool:
        if self._is_closing:
            raise UnavailableError(f"model {self.name!r} is being unloaded")
        if self._live is None:
            raise UnavailableError(f"model {self.name!r} has no engine")
        limit = self._options.instances + self._options.queue_size
        if self._outstanding >= limit:
            raise UnavailableError(
                f"model {self.name!r} has {self._outstanding} requests waiting or running; "
                f"it takes {limit}",
                hint="Send fewer requests at a time, or raise swap.queue_size.",
            )
        return self._live

    def _run(self, job: _Job) -> None:
        engine = job.pool.idle.get()
        if not self._begin(job):
            job.pool.idle.put(engine)
            return
        started = time.monotonic()
        outcome = _infer(engine, job)
        infer_s, kind = time.monotonic() - started, engine.kind
        job.pool.idle.put(engine)
        # The place is free before the caller hears, who may at once send the next request.
        self._release(job.pool, outcome)
        try:
            if not isinstance(outcome, RequestError):
                self._on_infer(self._record(job, kind, started, infer_s, outcome))
        finally:
            _settle(job.future, outcome)

    def _record(
        self,
        job: _Job,
        kind: EngineKind,
        started: float,
        infer_s: float,
        outcome: Inference | EdgeqError,
    ) -> InferRecord:
        version = job.pool.info.version
        queue_s, is_error = started - job.submitted, isinstance(outcome, EdgeqError)
        return InferRecord(self.name, version, kind, queue_s, infer_s, is_error)

    def _begin(self, job: _Job) -> bool:
        """Take a job out of the queue; False where it was cancelled or waited too long."""
        waited = time.monotonic() - job.submitted
        if job.submitted + waited > job.deadline:
            self._fail(job, DeadlineError(f"the request waited {waited:.3f} s for {self.name!r}"))
            return False
        if not self._take(job):
            return False
        if job.future.set_running_or_notify_cancel():
            return True
        self._release(job.pool, None)
        return False

    def _take(self, job: _Job) -> bool:
        """Make the caller the job's only owner; False where another thread already is."""
        with self._lock:
            is_mine = job in self._waiting
            self._waiting.discard(job)
            return is_mine

    def _fail(self, job: _Job, error: RequestError) -> None:
        if self._take(job):
            self._release(job.pool, None)
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)

    def _fail_waiting(self) -> None:
        with self._lock:
            jobs = list(self._waiting)
        for job in jobs:
            self._fail(job, UnavailableError(f"model {self.name!r} was unloaded"))

    def _release(self, pool: Pool, outcome: Inference | EdgeqError | None) -> None:
        is_nonfinite = isinstance(outcome, Inference) and not pool.is_finite(outcome.outputs)
        with self._lock:
            pool.requests += isinstance(outcome, Inference | EngineError)
            pool.errors += isinstance(outcome, EngineError)
            pool.nonfinite += is_nonfinite
            pool.references -= 1
            self._outstanding -= 1
            if pool.references == 0 or self._outstanding == 0:
                self._let_go.notify_all()
            is_last = pool.is_orphaned and pool.references == 0
        if is_last:
            pool.close()


def _infer(engine: Engine, job: _Job) -> Inference | EdgeqError:
    """Run once; whatever goes wrong is an outcome too, because a caller waits for it."""
    try:
        outputs = engine.infer(job.inputs)
    except (RequestError, EngineError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - what an engine's library raises is not ours to list
        failure = EngineError(f"inference failed: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
    return Inference(outputs, job.pool.info.version, engine.kind)


def _settle(future: Future[Inference], outcome: Inference | EdgeqError) -> None:
    if isinstance(outcome, Inference):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
