"""A command -> a running server: its log, its end, what it holds."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.serve_bench.wire import Connection, http_request

START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0


class ServerError(Exception):
    """A server does not run or answer; the message says why in one line."""


@dataclass
class Running:
    """A server and all that it started, in a session of their own."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the server and its children, pages that they share counted twice."""
        return sum(status_bytes(pid, "VmRSS") for pid in session_of(self.pid))

    def stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return (lines or ["it said nothing"])[-1].strip()[:200]


def start(
    command: Sequence[str], folder: Path, name: str, environ: Mapping[str, str] | None = None
) -> Running:
    """Start a server in a folder; what it prints goes to NAME.log there."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **(environ or {})}, start_new_session=True,
        )  # fmt: skip
    return Running(process, log)


def wait_until_ready(running: Running, port: int, path: str) -> None:
    """Return once GET `path` answers 200.

    Raises:
        ServerError: the server ended, or does not answer in time.
    """
    deadline, request = time.monotonic() + START_LIMIT_S, http_request(path, method="GET")
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise ServerError(f"it ended: {running.last_words()}")
        with contextlib.suppress(OSError, ValueError):
            connection = Connection(("127.0.0.1", port), 5.0)
            try:
                if connection.ask(request).status == 200:
                    return
            finally:
                connection.close()
        time.sleep(0.1)
    raise ServerError(f"not ready after {START_LIMIT_S:g} s: {running.last_words()}")


def end_on_terminate() -> None:
    """Let SIGTERM end this process as an exception does, so that its servers end with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def stop_all(running: Sequence[Running]) -> None:
    """Stop servers, all at the same time."""
    for one in running:
        one.process.terminate()
    for one in running:
        one.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def status_bytes(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status that is in kB; 0 where the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
    return 0


def session_of(leader: int) -> Iterator[int]:
    """Yield the processes whose session `leader` began."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader:
                    yield int(folder.name)
