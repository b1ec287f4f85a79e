"""A child process -> the lines that it says, until it ends, or is ended with all that it started.

A child that takes too long is ended, and so is one that stands still: no line and no CPU time, of
it or of those it started, which no real work lacks. A process that even SIGKILL does not end (it
is in a driver, or on a disk that hangs) is left behind after a while.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

LOOK_S = 0.5  # between two looks at a child that is silent
REST_S = 2.0  # for what it had still to say when it ended
REAP_S = 10.0  # for SIGKILL to take effect
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Child:
    """Watches one process, the first of a session of its own, whose stderr is a pipe of bytes.

    Args:
        process: just started.
        timeout_s: when it is ended, whatever it does.
        stall_s: how long it may stand still.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], *, timeout_s: float, stall_s: float
    ) -> None:
        self.ended_for: Literal["", "late", "stalled"] = ""
        self._process = process
        self._deadline = time.monotonic() + timeout_s
        self._stall_s = stall_s
        self._moved_at = time.monotonic()
        self._cpu_s = 0.0
        self._next_look = self._moved_at
        self._ended_at = float("inf")  # time.monotonic()

    def end(self) -> None:
        """Send SIGKILL to the child and all in its session's first group; from any thread."""
        if self._process.returncode is not None:
            return  # another group may have its number by now
        self._ended_at = min(self._ended_at, time.monotonic())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def lines(self) -> Iterator[str]:
        """Yield what it writes to stderr, line by line, until it has ended."""
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            rest, rests_until = b"", float("inf")
            while time.monotonic() < rests_until:
                if poll.poll(LOOK_S * 1e3):
                    said = os.read(pipe.fileno(), 1 << 16)
                    if not said:
                        break
                    self._moved_at = time.monotonic()
                    *whole, rest = (rest + said).split(b"\n")
                    yield from (line.decode("utf-8", "replace") for line in whole)
                if self._is_over() and rests_until == float("inf"):
                    self.end()  # whoever it left behind keeps the pipe open
                    rests_until = time.monotonic() + REST_S
            if rest:
                yield rest.decode("utf-8", "replace")

    def wait(self) -> int | None:
        """Return its exit status once it has ended, negative for a signal; None: it cannot be."""
        while not self._has_ended():
            if self._is_left_behind():
                return None
            time.sleep(LOOK_S)
        self.end()
        return self._process.wait()

    def _is_over(self) -> bool:
        """Look whether it has ended or is to be left behind; end it where it is time to."""
        if self._has_ended():
            return True
        self._end_if_due(time.monotonic())
        return self._is_left_behind()

    def _has_ended(self) -> bool:
        """Look, but leave its number to it, so that nobody else's group can have the same."""
        with contextlib.suppress(ChildProcessError):  # it was waited for already
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        return True

    def _is_left_behind(self) -> bool:
        return time.monotonic() >= self._ended_at + REAP_S

    def _end_if_due(self, now: float) -> None:
        if self.ended_for or now < self._next_look:
            return
        self._next_look = now + LOOK_S
        if now >= self._deadline:
            self.ended_for = "late"
        elif now - self._moved_at >= self._stall_s / 2 and self._has_not_moved(now):
            self.ended_for = "stalled"
        if self.ended_for:
            self.end()

    def _has_not_moved(self, now: float) -> bool:
        used_s = group_cpu_s(self._process.pid)
        if used_s > self._cpu_s:
            self._cpu_s, self._moved_at = used_s, now
        return now - self._moved_at >= self._stall_s


def group_cpu_s(group: int) -> float:
    """Return the CPU time that the processes of a group have used, and those they waited for."""
    used = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
            # After the name, which may hold anything: state, parent, group, ... (proc(5)).
            fields = path.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[2]) == group:
                used += sum(map(int, fields[11:15]))
    return used / CLOCK_TICKS
