"""Ten times what a model can answer -> who is answered, refused or late; clients that dawdle."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.serve_bench.edgeq_daemon import start_edgeq
from tools.serve_bench.identity import SHAPE, identity_model
from tools.serve_bench.processes import status_bytes
from tools.serve_bench.wire import END, binary_request, http_request
from tools.swap_bench.cases import MODEL, SLOW_RUN
from tools.swap_bench.load import Load, phase_of

INFER_S = 0.01  # asleep, so that the capacity is 100 a second wherever this runs
DEADLINE_S = 0.5
FACTOR = 10
CONNECTIONS = 1000  # at most; a request for which none is idle is counted as not sent
SLOW_LIMIT_S = 120.0
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BYTE_EVERY_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """One request; status 0 is a connection that failed, -1 one that was not sent."""

    status: int
    seconds: float = 0.0
    has_retry_after: bool = False


@dataclass(frozen=True)
class Overload:
    """What became of all requests."""

    capacity: float  # answers a second of four clients that take turns
    offered: float  # requests a second
    deadline_s: float
    statuses: dict[str, int]
    refused_without_retry_after: int
    accepted_p99_ms: float | None
    refused_p99_ms: float | None
    rss_before_bytes: int
    rss_peak_bytes: int
    slow: dict[str, str]


def run_overload(seconds: float, work: Path) -> Overload:
    """Offer ten times the capacity for so long, while two clients send one byte a second."""
    root = work / "overload"
    root.mkdir()
    daemon = start_edgeq(root, server=f", timeout_s: {DEADLINE_S}", run=SLOW_RUN,
                         environ={"BENCH_INFER_S": str(INFER_S)})  # fmt: skip
    address = ("127.0.0.1", daemon.http_port)
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    request = binary_request(MODEL, "x", values, "UINT8", "y")
    try:
        daemon.drop(identity_model(), MODEL)
        daemon.wait_served(MODEL)
        capacity = measured_capacity(address, request)
        before = status_bytes(daemon.running.pid, "VmRSS")
        slow = SlowClients(address, request)
        slow.start()
        rate = FACTOR * capacity
        outcomes = asyncio.run(offer(address, request, rate, seconds))
        peak = status_bytes(daemon.running.pid, "VmHWM")
        return summary(outcomes, capacity, rate, (before, peak), slow.join())
    finally:
        daemon.running.stop()


def measured_capacity(address: tuple[str, int], request: bytes, seconds: float = 2.0) -> float:
    load = Load(address, request)
    load.start()
    begun = time.perf_counter()
    time.sleep(seconds)
    ended = time.perf_counter()
    phase = phase_of(load.stop(), begun, ended)
    return (phase.requests - phase.failed) / phase.seconds


def summary(
    outcomes: Sequence[Outcome], capacity: float, rate: float, rss: tuple[int, int],
    slow: dict[str, str],
) -> Overload:  # fmt: skip
    names = {0: "connection failed", -1: "not sent: no connection idle"}
    statuses = Counter(names.get(one.status, str(one.status)) for one in outcomes)
    refused = [one for one in outcomes if one.status == 503]
    return Overload(
        capacity, rate, DEADLINE_S, dict(statuses.most_common()),
        sum(not one.has_retry_after for one in refused),
        _p99_ms([one for one in outcomes if one.status == 200]), _p99_ms(refused), *rss, slow,
    )  # fmt: skip


def _p99_ms(outcomes: Sequence[Outcome]) -> float | None:
    if not outcomes:
        return None
    return float(np.percentile([one.seconds for one in outcomes], 99)) * 1e3


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def offer(
    address: tuple[str, int], request: bytes, rate: float, seconds: float
) -> list[Outcome]:
    """Send at a steady rate, whether or not what was sent before is answered."""
    idle: list[Stream] = []
    tasks: set[asyncio.Task[Outcome]] = set()
    outcomes: list[Outcome] = []

    def ended(task: asyncio.Task[Outcome]) -> None:
        tasks.discard(task)
        outcomes.append(task.result())

    begun, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds:
        for _ in range(int(elapsed * rate) - sent):
            sent += 1
            if len(tasks) >= CONNECTIONS:
                outcomes.append(Outcome(-1))
                continue
            task = asyncio.create_task(_ask(address, request, idle))
            tasks.add(task)
            task.add_done_callback(ended)
        await asyncio.sleep(0.001)
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.sleep(0)  # the last of them tell their outcome
    for _, writer in idle:
        writer.close()
    return outcomes


async def _ask(address: tuple[str, int], request: bytes, idle: list[Stream]) -> Outcome:
    begun = time.perf_counter()
    try:
        stream = idle.pop() if idle else await asyncio.open_connection(*address)
        reader, writer = stream
        writer.write(request)
        head = await reader.readuntil(END)
        found = LENGTH.search(head)
        await reader.readexactly(int(found[1]) if found else 0)
    except (OSError, EOFError):
        return Outcome(0, time.perf_counter() - begun)
    if b"connection: close" in head.lower():
        writer.close()
    else:
        idle.append(stream)
    has_retry_after = b"retry-after:" in head.lower()
    return Outcome(int(head[9:12]), time.perf_counter() - begun, has_retry_after)


class SlowClients:
    """One sends its head, one its body, a byte a second each; when are they cut off?"""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        begun = http_request("/v2/models/m/infer", b" " * 10_000)
        body = begun.index(END) + len(END)
        self._found: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._dawdle, args=(name, address, at_once, rest))
            for name, at_once, rest in (
                ("head", b"", request),
                ("body", begun[:body], begun[body:]),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> dict[str, str]:
        for thread in self._threads:
            thread.join()
        return self._found

    def _dawdle(self, name: str, address: tuple[str, int], at_once: bytes, rest: bytes) -> None:
        begun = time.monotonic()
        self._found[name] = f"still connected after {SLOW_LIMIT_S:g} s"
        with socket.create_connection(address, BYTE_EVERY_S) as connection:
            connection.sendall(at_once)
            for position in range(int(SLOW_LIMIT_S / BYTE_EVERY_S)):
                try:
                    connection.sendall(rest[position : position + 1])
                    answer = self._heard(connection)
                except OSError as error:
                    answer = repr(error)
                if answer is not None:
                    self._found[name] = f"cut off after {time.monotonic() - begun:.1f} s: {answer}"
                    return

    def _heard(self, connection: socket.socket) -> str | None:
        """Wait a moment for what the server says; None where it says nothing."""
        with contextlib.suppress(TimeoutError):
            heard = connection.recv(4096)
            return heard.split(b"\r\n")[0].decode(errors="replace") or "closed without a word"
        return None
