"""Signs of life of the server's loop, engines and threads -> pings, replacements, a restart.

The watchdog is told that all is well only where the loop that serves has answered since it was told
last, and the main thread is there to tell it. What hangs elsewhere is no reason to restart what
serves: an engine on a worker is given up and replaced, a thread that is stuck is a fault in the
status. An engine that hangs on the loop's own thread is noted for the next start, which does not
load it again, before the watchdog ends the process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edgeq.daemon.deployment import Context, Deployment
from edgeq.daemon.heartbeat import Answer, Heartbeat
from edgeq.daemon.stacks import stacks
from edgeq.swap import Hang, HangWatch
from edgeq.systemd import Notifier, watchdog_interval_s

logger = logging.getLogger(__name__)

SAFE_MODE_HINT = "Look at the log of the runs before; `edgeq resume` ends safe mode."
LIMIT_S = 30.0  # where no service manager sets one
QUESTIONS = 6  # within the watchdog's limit
LATE_SHARE = 1 / 3  # of the limit: the log says where the threads are
INLINE_SHARE = 2 / 3  # of the limit: an engine on the loop's thread is noted before the end
STUCK_S = 600.0  # of a thread: a load is bounded by 300 s, a drain by swap.drain_timeout_s
MOST_HUNG_THREADS = 3  # left to engines, before the process begins anew


def count_start(context: Context) -> None:
    """Count a start, before anything is loaded that the last run may have died of."""
    starts, faults = context.starts, context.faults
    starts.begin()
    if starts.refusal is not None and faults.note_error(starts.refusal, starts.problem) is None:
        faults.note("io_error", starts.problem)
    if starts.last_words:  # whom the counter of the last process told, nobody may have read
        faults.note("engine_hung", f"the last run ended: {starts.last_words}")
    if starts.safe_mode is not None:
        reason = starts.safe_mode.reason
        faults.note("crash_loop", reason)
        context.events.record("", "safe mode", f"{reason}: edgeq only serves")
        logger.error("safe mode", extra={"reason": reason, "hint": SAFE_MODE_HINT})


class Duties:
    """What the threads are at, and since when; safe to share between threads."""

    def __init__(self) -> None:
        self._doing: dict[str, tuple[str, float]] = {}

    @contextmanager
    def at(self, doing: str) -> Iterator[None]:
        """Say what the calling thread does in the block."""
        name = threading.current_thread().name
        self._doing[name] = (doing, time.monotonic())
        try:
            yield
        finally:
            self._doing.pop(name, None)

    def longer_than(self, seconds: float, now: float) -> dict[str, tuple[str, float]]:
        """Return thread -> what it does and for how long."""
        found = {name: (doing, now - since) for name, (doing, since) in [*self._doing.items()]}
        return {name: each for name, each in found.items() if each[1] >= seconds}


@dataclass(frozen=True)
class Hands:
    """What supervision may do; `replace` and `leave_safe_mode` return at once."""

    beat: Callable[[Answer], None]
    wake: Callable[[], None]
    replace: Callable[[Deployment, Hang], None]
    leave_safe_mode: Callable[[], None]


class Supervision:
    """Used by the main thread, a second apart at most."""

    def __init__(self, context: Context, notifier: Notifier, duties: Duties, hands: Hands) -> None:
        half_s = watchdog_interval_s()
        self.limit_s = LIMIT_S if half_s is None else 2 * half_s
        self._context = context
        self._notifier = notifier
        self._duties = duties
        self._hands = hands
        self._heartbeat = Heartbeat(hands.beat, hands.wake, self.limit_s / QUESTIONS)
        self._hangs = HangWatch()
        self._noted: set[object] = set()  # runs and stuck threads that were told of
        self._is_late = self._is_ending = self._is_leaving = False

    @property
    def interval_s(self) -> float:
        """Return how far apart the looks may be, for the pings to come in time."""
        return self._heartbeat.interval_s

    def look(self, now: float, deployments: Sequence[Deployment]) -> bool:
        """Look at everything; True where the watchdog may be told that all is well."""
        is_alive = self._heartbeat.look(now)
        self._note_lateness(now, is_alive=is_alive)
        self._look_at_engines(now, deployments)
        self._look_at_threads(now)
        is_over = self._context.starts.look(now)
        if is_over and not self._is_leaving:
            self._hands.leave_safe_mode()
        self._is_leaving = is_over
        self._context.metrics.safe_mode.set(self._context.starts.safe_mode is not None)
        return is_alive and not self._is_ending

    # ---- the loop that serves

    def _note_lateness(self, now: float, *, is_alive: bool) -> None:
        late_s = self._heartbeat.late_s(now)
        if is_alive and self._is_late:
            self._is_late = False
            logger.warning("the server's loop answers again")
        elif late_s >= LATE_SHARE * self.limit_s and not self._is_late:
            self._is_late = True
            logger.error(
                f"the server's loop has not answered for {late_s:.0f} s: no ping to the watchdog",
                extra={"hint": "Look at the next lines for where its thread is."},
            )
            self._log_stacks()

    def _log_stacks(self) -> None:
        for name, where in sorted(stacks().items()):
            logger.error(f"thread {name}: {where}")

    # ---- engines

    def _look_at_engines(self, now: float, deployments: Sequence[Deployment]) -> None:
        by_name = {deployment.name: deployment for deployment in deployments}
        slots = [deployment.slot for deployment in deployments]
        hangs = self._hangs.look(slots, now, INLINE_SHARE * self.limit_s)
        for hang in hangs:
            if self._hangs.give_up(hang):
                self._note_hang(hang)
                self._hands.replace(by_name[hang.name], hang)
            elif hang.is_inline and self._heartbeat.late_s(now) and hang.key not in self._noted:
                self._noted.add(hang.key)
                self._note_hang(hang)
                self._end(f"model {hang.name!r}: {hang.words}, and holds the server's loop")
        left = self._hangs.threads_left
        self._context.metrics.hung_threads.set(left)
        if left >= MOST_HUNG_THREADS:
            self._end(f"{left} threads are inside engines that hang")

    def _note_hang(self, hang: Hang) -> None:
        self._context.starts.note_hung(hang.name, int(hang.version), hang.engine)
        self._context.faults.note("engine_hung", hang.words, model=hang.name)
        self._log_stacks()

    def _end(self, why: str) -> None:
        """Have the process started anew: by the watchdog, or else by whoever started this one."""
        if self._is_ending:
            return
        self._is_ending = True
        logger.critical(f"edgeq begins anew: {why}")
        self._context.starts.note_end(why)
        self._notifier.notify(WATCHDOG="trigger")
        if not self._notifier.has_manager:
            os.abort()  # what faulthandler then writes says where each thread was

    # ---- threads

    def _look_at_threads(self, now: float) -> None:
        self._context.stuck = self._duties.longer_than(STUCK_S, now)
        for name, (doing, seconds) in self._context.stuck.items():
            key = name, doing, round(now - seconds)
            if key not in self._noted:
                self._noted.add(key)
                said = f"thread {name!r} has been at {doing} for {seconds:.0f} s"
                self._context.faults.note("thread_hung", said)
                self._log_stacks()
