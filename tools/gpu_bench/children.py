"""A contestant and a request -> its answer from a child process, whatever becomes of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Answer = dict[str, Any]
TAIL = 400  # characters of what a child said before it died


@dataclass
class Clock:
    """The seconds that are left for everything."""

    limit_s: float
    started: float

    @classmethod
    def start(cls, limit_s: float) -> Clock:
        """Begin now."""
        return cls(limit_s, time.monotonic())

    @property
    def spent_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float:
        """Return the seconds until the limit."""
        return self.limit_s - self.spent_s


def ask(contestant: str, request: Mapping[str, Any], clock: Clock, limit_s: float) -> Answer:
    """Return a child's answer: its status ('ok', 'absent', 'failed', 'skipped') and the rest."""
    limit_s = min(limit_s, clock.left_s)
    if limit_s <= 1:
        return {"status": "skipped", "reason": f"the limit of {clock.limit_s:.0f} s is spent"}
    with tempfile.TemporaryDirectory() as folder:
        reply = Path(folder) / "reply.json"
        command = [sys.executable, "-m", "tools.gpu_bench.child", contestant,
                   json.dumps(dict(request)), str(reply)]  # fmt: skip
        started = time.monotonic()
        answer = _run(command, reply, limit_s)
        return {**answer, "seconds": round(time.monotonic() - started, 2)}


def _run(command: list[str], reply: Path, limit_s: float) -> Answer:
    try:
        done = subprocess.run(
            command, cwd=ROOT, timeout=limit_s, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"took longer than {limit_s:.0f} s"}
    if reply.is_file():
        answer: Answer = json.loads(reply.read_text())
        return answer
    said = done.stderr.strip()[-TAIL:]
    return {"status": "failed", "reason": f"{_ending(done.returncode)}: {said}"}


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"
