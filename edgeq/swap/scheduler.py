"""The requests of one version -> its engines: at once, or by priority; its worker threads."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from edgeq.engines.base import EngineKind
from edgeq.errors import DeadlineError, EdgeqError, EngineError, RequestError, UnavailableError
from edgeq.swap.batching import Together, infer_together
from edgeq.swap.done import Done
from edgeq.swap.options import SwapOptions
from edgeq.swap.places import Places
from edgeq.swap.pool import AtWork, Instance, Pool, close_engines
from edgeq.swap.queue import RequestQueue
from edgeq.swap.requests import (
    Afterwards,
    Inference,
    InferRecord,
    Inputs,
    Outcome,
    Waiting,
    infer,
)

# One thread that submits keeps one engine busy while it runs it itself. Two engines on workers
# answered as many requests as one inline where an inference takes 0.18 ms (2 x86 cores, 16 clients
# on an event loop: 4.6 against 4.4 thousand/s), fewer below that and 1.6 times as many at 2.3 ms.
PARALLEL_PAYS_FROM_S = 0.0002


class _Run(NamedTuple):
    """What an engine was busy with; several outcomes where requests ran together."""

    kind: EngineKind
    started: float
    infer_s: float
    outcomes: Sequence[Outcome]


class Scheduler:
    """Binds requests to one version's engines until they are answered.

    A request runs on its caller's thread where an engine is idle, nobody waits and the model is
    quick; else it waits for a worker thread: the most urgent first, in the order of arrival where
    they are equally urgent.

    Args:
        places: the slot's; a method says so where the caller must hold its lock.
        on_infer: told of every inference, on the thread that ran it; what it raises is dropped.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        options: SwapOptions,
        places: Places,
        on_infer: Callable[[InferRecord], None],
    ) -> None:
        self.pool = pool
        self.references = 0  # requests bound to this version, waiting or running
        self.is_over = False
        self._name = name
        self._options = options
        self._places = places
        self._on_infer = on_infer
        self._is_orphaned = False  # whoever lets go last closes the engines
        self._work = threading.Condition(places.lock)  # for workers: a request and an engine
        self._arrival = threading.Condition(places.lock)  # for a worker that gathers a batch
        self._gathering = 0
        self._waiting = RequestQueue()
        self._idle = list(pool.instances)  # last in, first out: its memory is still warm
        self._inline_below_s = _inline_below_s(pool, options)
        self._workers = [
            threading.Thread(target=self._serve, name=f"infer-{name}", daemon=True)
            for _ in pool.instances
        ]

    @property
    def queue_length(self) -> int:
        """Requests that wait for an engine."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the workers.

        Raises:
            RuntimeError: the system has no thread left; all is ended.
        """
        workers, self._workers = self._workers, []
        try:
            for worker in workers:
                worker.start()
                self._workers.append(worker)
        except RuntimeError:
            self.retire()
            raise

    # Requests in; on the callers' threads.

    def claim(self) -> Instance | None:
        """Take an engine that the caller may run at once, with the lock held."""
        if self._waiting or not self._idle:
            return None
        if not self.pool.is_quicker_than(self._inline_below_s):
            return None
        self._bind()
        return self._idle.pop()

    def run_here(
        self, instance: Instance, inputs: Inputs, submitted: float, afterwards: Afterwards
    ) -> Future[Inference]:
        """Run a claimed engine; returns a future that is done. It is counted `afterwards`."""
        started = instance.busy_since = time.monotonic()
        outcome = infer(instance.engine, inputs)
        run = _Run(instance.engine.kind, started, time.monotonic() - started, (outcome,))
        self._let_go(instance, run, 1)
        afterwards(lambda: self._count(run, (submitted,)))
        answer = self._answer(run, outcome, submitted)
        return Done(answer) if isinstance(answer, Inference) else Done(None, answer)

    def expected_s(self, priority: int) -> float:
        """Return when a request would have its answer, as things stand, with the lock held.

        0 where nobody is before it: then it is run, however long the last one took.
        """
        instances = len(self.pool.instances)
        ahead = self._waiting.ahead_of(priority) + instances - len(self._idle)
        typical_s = self.pool.typical_s
        if not ahead or not math.isfinite(typical_s):
            return 0.0
        return (ahead / instances + 1) * typical_s

    def enqueue(
        self, inputs: Inputs, submitted: float, deadline: float, priority: int
    ) -> Future[Inference]:
        """Have a worker run it, with the lock held."""
        request = Waiting(inputs, submitted, deadline, Future())
        self._bind()
        self._places.overdue = min(self._places.overdue, deadline)
        self._waiting.push(request, priority)
        if self._gathering:
            self._arrival.notify()
        else:
            self._work.notify()
        return request.future

    def _bind(self) -> None:
        self.references += 1
        self._places.taken += 1

    def _unbind(self, count: int) -> bool:
        """Let go of requests, with the lock held; True where the caller must end the engines."""
        self.references -= count
        self._places.free(count, is_last=self.references == 0)
        return self._is_orphaned and self.references == 0

    # Requests that get no answer; on any thread.

    def drop_overdue(self, now: float) -> None:
        """Let go of what waits in vain: too long already, or cancelled."""
        self._drop(lambda request: request.is_over(now), self._too_late)

    def fail_waiting(self) -> None:
        """Let go of all that waits."""
        self._drop(
            lambda request: True,
            lambda request: UnavailableError(f"model {self._name!r} was unloaded"),
        )

    def _drop(
        self,
        is_dropped: Callable[[Waiting], bool],
        make_error: Callable[[Waiting], RequestError],
    ) -> None:
        with self._places.lock:
            dropped = self._waiting.remove(is_dropped)
            self._places.overdue = min(self._places.overdue, self._waiting.soonest_deadline)
            must_end = bool(dropped) and self._unbind(len(dropped))
        for request in dropped:
            request.fail(make_error(request))
        if must_end:
            self._end()

    def _too_late(self, request: Waiting) -> DeadlineError:
        waited_s = time.monotonic() - request.submitted
        return DeadlineError(f"the request waited {waited_s:.3f} s for {self._name!r}")

    # A run that hangs; on any thread.

    def give_up(self, instance: Instance) -> AtWork | None:
        """Leave an engine and its worker to a run that hangs, with the lock held.

        Returns whose requests `fail_given_up` is to end, without the lock; None where the run has
        ended meanwhile, or holds its caller's thread, from which nothing can be taken.
        """
        at_work = instance.at_work
        if at_work is None or instance.is_given_up:
            return None
        instance.is_given_up = True
        self._workers = [worker for worker in self._workers if worker is not at_work.worker]
        self.pool.instances = tuple(i for i in self.pool.instances if i is not instance)
        return at_work

    def fail_given_up(self, at_work: AtWork, error: DeadlineError) -> None:
        """End the requests of a run that was given up; also those that wait where none can run."""
        with self._places.lock:
            must_end = self._unbind(len(at_work.begun) + len(at_work.late))
        for request in at_work.begun:
            request.give_up(error)
        for request in at_work.late:
            request.fail(self._too_late(request))
        if not self.pool.instances:
            self._drop(
                lambda request: True,
                lambda request: UnavailableError(f"model {self._name!r} gets another engine"),
            )
        if must_end:
            self._end()

    # Requests out; on the workers' threads.

    def _serve(self) -> None:
        while taken := self._take():
            self._run(*taken)
            if taken[0].is_given_up:
                close_engines(taken[0].engines)  # it came back after all, but not into service
                return
            del taken  # it would keep the inputs and the answer until the next request

    def _take(self) -> tuple[Instance, list[Waiting]] | None:
        with self._places.lock:
            self._work.wait_for(lambda: self.is_over or (self._waiting and self._idle))
            if not self._waiting:
                return None
            instance, requests = self._idle.pop(), [self._waiting.pop()]
            if instance.together is not None:
                self._gather(requests, instance.together)
            return instance, requests

    def _gather(self, requests: list[Waiting], together: Together) -> None:
        """Add what is to run together with the first one, once enough wait or time is up."""
        until = time.monotonic() + self._options.max_delay_us / 1e6
        most = together.size - 1
        self._gathering += 1
        while not (found := self._waiting.pop_alike(requests[0], most, most)):
            left_s = until - time.monotonic()
            if left_s <= 0:
                found = self._waiting.pop_alike(requests[0], together.least - 1, most)
                break
            self._arrival.wait(left_s)
        requests += found
        self._gathering -= 1
        if self._waiting and self._idle:  # those who arrived meanwhile woke nobody else
            self._work.notify()

    def _run(self, instance: Instance, requests: list[Waiting]) -> None:
        now = time.monotonic()
        late = [request for request in requests if now > request.deadline]
        begun = [
            request
            for request in requests
            if now <= request.deadline and request.future.set_running_or_notify_cancel()
        ]
        instance.at_work = AtWork(threading.current_thread(), begun, late)
        run = self._infer(instance, begun)
        # The places are free before the callers hear, who may at once send the next request.
        if not self._let_go(instance, run, len(requests)):
            return
        self._count(run, [request.submitted for request in begun])
        for request in late:
            request.fail(self._too_late(request))
        for request, outcome in zip(begun, run.outcomes, strict=True):
            self._settle(run, outcome, request.submitted, request.future)

    def _infer(self, instance: Instance, requests: list[Waiting]) -> _Run:
        started = instance.busy_since = time.monotonic()
        outcomes: list[Outcome]
        if instance.together is None or len(requests) < 2:
            outcomes = [infer(instance.engine, request.inputs) for request in requests]
        else:
            inputs = [request.inputs for request in requests]
            outcomes = infer_together(instance.engine, instance.together, inputs)
        return _Run(instance.engine.kind, started, time.monotonic() - started, outcomes)

    def _let_go(self, instance: Instance, run: _Run, requests: int) -> bool:
        """Take the engine back; False where it had been given up, and its requests with it."""
        answers = sum(isinstance(outcome, dict) for outcome in run.outcomes)
        with self._places.lock:
            instance.busy_since, instance.at_work = 0.0, None
            if instance.is_given_up:
                return False
            self.pool.time(answers, run.infer_s)
            self._idle.append(instance)
            must_end = self._unbind(requests)
            if self._waiting:
                self._work.notify()
        if must_end:
            self._end()
        return True

    def _settle(
        self, run: _Run, outcome: Outcome, submitted: float, future: Future[Inference]
    ) -> None:
        answer = self._answer(run, outcome, submitted)
        if isinstance(answer, Inference):
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _answer(self, run: _Run, outcome: Outcome, submitted: float) -> Inference | EdgeqError:
        """Return what the caller gets."""
        if not isinstance(outcome, dict):
            return outcome
        version, queue_s = self.pool.info.version, run.started - submitted
        return Inference(outcome, version, run.kind, queue_s, run.infer_s)

    def _count(self, run: _Run, submitted: Sequence[float]) -> None:
        """Take what came of a run into account, and tell of each inference in it."""
        tally = self.pool.tally(run.outcomes)
        with self._places.lock:
            self.pool.note(tally)
        version, together = self.pool.info.version, len(run.outcomes)
        for outcome, begun in zip(run.outcomes, submitted, strict=True):
            is_answer = isinstance(outcome, dict)
            if is_answer or isinstance(outcome, EngineError):
                record = InferRecord(
                    self._name, version, run.kind, run.started - begun, run.infer_s,
                    not is_answer, together,
                )  # fmt: skip
                with contextlib.suppress(Exception):
                    self._on_infer(record)

    # The end.

    def retire(self) -> None:
        """Close the engines now, or leave that to the request that lets go of them last."""
        with self._places.lock:
            self._is_orphaned = self.references > 0
        if not self._is_orphaned:
            self._end_workers()
            self.pool.close()

    def _end_workers(self) -> None:
        self._say_it_is_over()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()

    def _end(self) -> None:
        """End what nobody retires; on a thread that the workers may be waiting for."""
        self._say_it_is_over()
        self.pool.close()

    def _say_it_is_over(self) -> None:
        with self._places.lock:
            self.is_over = True
            self._work.notify_all()


def _inline_below_s(pool: Pool, options: SwapOptions) -> float:
    """Return what a model must take less than to run on the caller's thread."""
    if pool.info.engine == "cuda-int8":
        return 0.0  # it may have to wait while another engine's kernels are loaded
    if pool.instances[0].together is not None:
        return 0.0  # requests of one caller's thread would never meet
    if options.instances > 1:
        return min(options.inline_below_s, PARALLEL_PAYS_FROM_S)
    return options.inline_below_s
