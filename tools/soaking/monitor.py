"""A daemon -> what it holds, twice a second, and whether its status answers."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.errors import DaemonError
from tools.serve_bench.processes import status_bytes
from tools.soaking.box import Box
from tools.soaking.journal import Journal

EVERY_S = 0.5
STATUS_LIMIT_S = 5.0
COMMIT_LIMIT_S = 5.0  # between a switch and its record
METRICS_EVERY = 20  # looks at what is held


@dataclass(frozen=True)
class Held:
    """What the daemon holds at a moment; `life` counts its starts."""

    at_s: float
    life: int
    rss_bytes: int
    descriptors: int
    threads: int
    disk_bytes: int
    children: int
    metrics: int = 0  # lines of the page, looked at now and then


class Monitor:
    """A thread beside the daemon."""

    def __init__(self, box: Box, journal: Journal) -> None:
        self._box, self._journal = box, journal
        self.held: list[Held] = []
        self.slowest_status_s = 0.0
        self.faults: dict[str, str] = {}  # events of the box: kind and message
        self._uncommitted: dict[str, float] = {}  # since when
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.look()
            self._ask_status()

    def look(self) -> None:
        """Note what the daemon holds now."""
        pid, life = self._box.pid, self._box.lives
        if pid and not self._journal.is_allowed("down", time.monotonic()):
            with contextlib.suppress(OSError):  # it was killed meanwhile
                held = held_by(self._box, pid, life, self._journal.begun)
                if self.held and self._journal.is_allowed("full disk", time.monotonic() - EVERY_S):
                    held = replace(held, disk_bytes=self.held[-1].disk_bytes)  # ours, not its own
                self.held.append(replace(held, metrics=self._metrics()))

    def _metrics(self) -> int:
        """Return how many lines the page of metrics has, or had when it was asked for last."""
        if len(self.held) % METRICS_EVERY == 0:
            with contextlib.suppress(OSError):  # killed meanwhile; status is held to answering
                url = f"http://127.0.0.1:{self._box.metrics}/metrics"
                with urllib.request.urlopen(url, timeout=STATUS_LIMIT_S) as page:
                    return len(page.read().splitlines())
        return self.held[-1].metrics if self.held else 0

    def _ask_status(self) -> None:
        sent = time.monotonic()
        try:
            status = self._box.client.status()
        except DaemonError as error:
            kinds = ("down", "overload")  # then there may be no connection left for it
            if not any(self._journal.is_allowed(kind, sent) for kind in kinds):
                self._journal.violate("status does not answer", error.message)
            return
        taken = time.monotonic() - sent
        self.slowest_status_s = max(self.slowest_status_s, taken)
        if taken > STATUS_LIMIT_S:
            self._journal.violate("status is slow", f"{taken:.1f} s")
        self._note(status)

    def _note(self, status: dict[str, Any]) -> None:
        for event in status["events"]:
            if event["kind"] == "fault":
                self.faults.setdefault(event["message"], event["kind"])
        for name, model in status["models"].items():
            self._note_live(name, model)

    def _note_live(self, name: str, model: dict[str, Any]) -> None:
        """Let nothing serve for long that is not what the registry would serve after a crash."""
        now, live = time.monotonic(), (model["live"] or {}).get("version", "")
        committed = [v["version"] for v in model["versions"] if v["state"] == "committed"]
        if not live or live in committed or self._journal.is_allowed("full disk", now):
            self._uncommitted.pop(name, None)
            return
        since = self._uncommitted.setdefault(name, now)
        if now - since > COMMIT_LIMIT_S:
            evidence = f"{name}: {live} for {now - since:.1f} s, the registry has {committed}"
            self._journal.violate("what serves is not committed", evidence)


def held_by(box: Box, pid: int, life: int, begun: float) -> Held:
    folder = Path(f"/proc/{pid}")
    return Held(
        round(time.monotonic() - begun, 2),
        life,
        status_bytes(pid, "VmRSS"),
        len(os.listdir(folder / "fd")),
        len(os.listdir(folder / "task")),
        box.used_bytes,
        sum(1 for _ in box.children()),
    )
