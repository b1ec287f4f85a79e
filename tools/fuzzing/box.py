"""A folder -> a real daemon over it that serves a small model, and what it holds meanwhile."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.fuzzing.http_requests import WITNESS
from tools.serve_bench.edgeq_daemon import EdgeqDaemon, start_edgeq
from tools.serve_bench.processes import status_bytes

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "correct-horse-battery-staple"
# The small model's own needs are no news, and captured requests would start builds.
CONFIG = """\
samples: {capture_ratio: 0}
drift: {policy: "off"}
build: {timeout_s: 60}
"""


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    rss_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Box:
    """A daemon with a token, which serves `WITNESS` as float."""

    daemon: EdgeqDaemon

    @property
    def pid(self) -> int:
        return self.daemon.running.pid

    @property
    def is_alive(self) -> bool:
        return self.daemon.running.process.poll() is None

    @property
    def log(self) -> str:
        return self.daemon.running.log.read_text(errors="replace")

    def serve(self, name: str) -> None:
        """Drop the small model under a name, and wait until it serves."""
        self.daemon.drop((ROOT / "tests" / "data" / "digits.tflite").read_bytes(), name)
        self.daemon.wait_served(name)

    def held(self) -> Held:
        folder = Path(f"/proc/{self.pid}")
        return Held(
            status_bytes(self.pid, "VmRSS"),
            len(os.listdir(folder / "fd")),
            len(os.listdir(folder / "task")),
        )


@contextlib.contextmanager
def box(*, server: str = "") -> Iterator[Box]:
    """Start a daemon in a folder of its own; both are gone at the end.

    `server` is YAML of further keys of that section, after a comma.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-fuzz-") as folder:
        root = Path(folder)
        token_file = root / "token"
        token_file.write_text(f"{TOKEN}\n")
        token_file.chmod(0o600)
        auth = f", auth: {{token_file: {token_file}}}{server}"
        daemon = start_edgeq(root, extra=CONFIG, server=auth)
        try:
            served = Box(daemon)
            served.serve(WITNESS)
            yield served
        finally:
            daemon.running.stop()
