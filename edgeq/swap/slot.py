"""Requests and new versions of one model -> answers: queue, flip, drain."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

from edgeq.bundle import Golden
from edgeq.engines.base import Engine
from edgeq.errors import DeadlineError, EdgeqError, SwapError, UnavailableError
from edgeq.swap.hangs import Run, usual_bound_s, within
from edgeq.swap.options import Policy, SwapOptions
from edgeq.swap.places import Places
from edgeq.swap.pool import Instance, LiveInfo, Pool, Source, load_pool
from edgeq.swap.probation import Health
from edgeq.swap.requests import Afterwards, Inference, InferRecord, at_once
from edgeq.swap.scheduler import Scheduler
from edgeq.swap.turn import TurnBudget

Array = npt.NDArray[Any]

# Of a request's time, within which its answer must be expected for it to be let in: the estimate is
# a mean, and the way to the client takes time, too.
IN_TIME_SHARE = 0.8


class Slot:
    """One model's place to be served from; no lock is held while an engine is loaded or runs.

    Args:
        on_infer: told of every inference, on the thread that ran it or where `submit`'s
            `afterwards` has it done; must not raise.
        turn: of the event loop that submits; slots of the same loop share it.
    """

    def __init__(
        self,
        name: str,
        options: SwapOptions,
        on_infer: Callable[[InferRecord], None],
        turn: TurnBudget | None = None,
    ) -> None:
        self.name = name
        self._options = options
        self._on_infer = on_infer
        self._turn_budget = turn or TurnBudget()
        self._turn = threading.Lock()  # publish and close, one at a time; no request takes it
        self._places = Places(options.instances + options.queue_size)
        self._lock = self._places.lock  # everything below, and all about requests
        self._live: Scheduler | None = None
        self._undrained: list[Scheduler] = []  # the live version and older ones
        self._is_closing = False

    @property
    def live(self) -> LiveInfo | None:
        """What serves now, or None."""
        live = self._live
        return live.pool.present if live else None

    @property
    def queue_length(self) -> int:
        """Requests that wait for an engine."""
        return sum(scheduler.queue_length for scheduler in self._undrained)

    @property
    def health(self) -> Health:
        """What the live version did since it was published; zeros where nothing serves."""
        with self._lock:
            if self._live is None:
                return Health()
            pool = self._live.pool
            return Health(pool.requests, pool.errors, pool.nonfinite)

    # ---- runs that hang

    def runs(self) -> list[Run]:
        """Return the engines at work, of all versions."""
        with self._lock:
            pools = [scheduler.pool for scheduler in self._undrained]
        instances = [(pool, instance) for pool in pools for instance in pool.instances]
        found = [Run(self, pool, each, each.busy_since) for pool, each in instances]
        return [run for run in found if run.since]

    def hang_bound_s(self, pool: Pool, instance: Instance) -> float:
        """Return how long the run of an engine may take before it is taken for hung."""
        at_work = instance.at_work
        requests = len(at_work.begun) if at_work else 1
        return usual_bound_s(self._options.hang_timeout_s, pool.typical_s, max(1, requests))

    def give_up(self, instance: Instance, why: str) -> bool:
        """Leave an engine to a run that hangs, whose requests fail; other engines go on.

        Where it was the version's last one, nothing serves until the next `publish`. Returns False
        where the run has ended meanwhile, or holds its caller's thread.
        """
        with self._lock:
            for scheduler in self._undrained:
                if instance in scheduler.pool.instances:
                    break
            else:
                return False
            at_work = scheduler.give_up(instance)
            if at_work is None:
                return False
            is_ours = self._live is scheduler and not scheduler.pool.instances
            if is_ours:
                self._live = None
        scheduler.fail_given_up(at_work, DeadlineError(f"model {self.name!r}: {why}"))
        if is_ours:  # nobody else will
            self._retire(scheduler)
        return True

    def submit(
        self,
        inputs: Mapping[str, Array],
        *,
        timeout_s: float | None = None,
        priority: int = 0,
        afterwards: Afterwards = at_once,
    ) -> Future[Inference]:
        """Have the version that is live now answer a request.

        A model whose inferences take less than `inline_below_s` answers on the caller's thread
        where an engine is idle and the loop's turn has time left: the future is done. Else the
        request waits, and may be cancelled meanwhile. The future fails with DeadlineError where it
        waited longer than `timeout_s`, and with what the engine raised.

        Args:
            priority: 1 is the most urgent, 2 the next; 0 stands for `requests.DEFAULT_PRIORITY`.
            afterwards: given what counts an inference that ran on the caller's thread, to be
                called once its answer is on the way.

        Raises:
            UnavailableError: nothing serves, the queue is full or too long for the deadline, or
                the slot is closing.
        """
        now = time.monotonic()
        if self._places.is_full or now > self._places.overdue:
            self._drop_overdue(now)
        with self._lock:
            scheduler = self._admitting()
            instance = scheduler.claim() if self._turn_budget.is_left else None
            if instance is None:
                deadline = float("inf")
                if timeout_s is not None:
                    deadline = now + timeout_s
                    self._check_in_time(scheduler.expected_s(priority), timeout_s)
                return scheduler.enqueue(inputs, now, deadline, priority)
        future = scheduler.run_here(instance, inputs, now, afterwards)
        self._turn_budget.spend(time.monotonic() - now)
        return future

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
            live = self._set_live(None)
            if not self._wait_until(lambda: self._places.taken == 0):
                for scheduler in self._undrained:
                    scheduler.fail_waiting()
            if live:
                self._retire(live)

    # Swapping: on the publisher's thread, which has the turn.

    def _load(self, source: Source) -> Scheduler:
        try:
            if self._is_closing:
                raise UnavailableError("the slot is closing")
            pool = within(
                self._options.load_timeout_s,
                lambda: load_pool(source, self._options),
                lambda pool: pool.close(),
                f"load-{self.name}",
            )
            scheduler = Scheduler(self.name, pool, self._options, self._places, self._on_infer)
            scheduler.start()
        except Exception as error:
            raise SwapError(
                f"version {source.version} of model {self.name!r} was not published: {error}",
                hint=error.hint if isinstance(error, EdgeqError) else "",
            ) from error
        return scheduler

    def _flip(self, new: Scheduler) -> None:
        old = self._set_live(new)
        if old:
            self._wait_until(lambda: old.references == 0)
            self._retire(old)

    def _drop_then_load(self, source: Source) -> None:
        old = self._set_live(None)
        if old and not self._wait_until(lambda: old.references == 0):
            self._set_live(old)
            raise SwapError(
                f"version {source.version} of model {self.name!r} was not published: version "
                f"{old.pool.source.version} still ran after {self._options.drain_timeout_s} s",
                hint="Raise swap.drain_timeout_s, or use the policy load-then-drop.",
            )
        if old:
            self._retire(old)
        try:
            self._flip(self._load(source))
        except SwapError as error:
            if old:
                self._restore(old.pool.source, error)
            raise

    def _restore(self, source: Source, reason: SwapError) -> None:
        try:
            self._flip(self._load(source))
        except SwapError as error:
            raise SwapError(
                f"{reason}; and what served before is gone: {error}", hint=error.hint
            ) from reason

    def _set_live(self, new: Scheduler | None) -> Scheduler | None:
        with self._lock:
            old, self._live = self._live, new
            if new is not None and new not in self._undrained:
                self._undrained.append(new)
            return old

    def _retire(self, old: Scheduler) -> None:
        old.retire()
        with self._lock:
            self._undrained = [scheduler for scheduler in self._undrained if not scheduler.is_over]

    def _wait_until(self, is_drained: Callable[[], bool]) -> bool:
        return self._places.wait_until(is_drained, self._options.drain_timeout_s)

    # Requests: on the callers' threads.

    def _admitting(self) -> Scheduler:
        if self._is_closing:
            raise UnavailableError(f"model {self.name!r} is being unloaded")
        if self._live is None:
            raise UnavailableError(f"model {self.name!r} has no engine")
        if self._places.is_full:
            typical_s = self._live.pool.typical_s
            raise self._places.refusal(self.name, typical_s, self._options.instances)
        return self._live

    def _check_in_time(self, expected_s: float, timeout_s: float) -> None:
        """Refuse at once what would only wait to be told that it waited too long."""
        if expected_s > IN_TIME_SHARE * timeout_s:
            raise UnavailableError(
                f"model {self.name!r} would answer in {expected_s:.3f} s, as many are waiting; the "
                f"request has {timeout_s:g} s",
                retry_after_s=max(1, math.ceil(expected_s - IN_TIME_SHARE * timeout_s)),
                hint="Send fewer requests at a time, or ask for a longer timeout.",
            )

    def _drop_overdue(self, now: float) -> None:
        """Nobody gets a place later for one who waits in vain."""
        with self._lock:
            self._places.overdue = float("inf")  # lowered by each version for what it keeps
            undrained = list(self._undrained)
        for scheduler in undrained:
            scheduler.drop_overdue(now)
