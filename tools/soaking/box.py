"""A folder -> edgeq's daemon over it, started and ended as often as the soak likes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.cli.client import DaemonClient
from tools.serve_bench.processes import free_ports
from tools.soaking.journal import Journal
from tools.soaking.small_disk import SmallDisk

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = """\
models_dir: {root}/models
state_dir: {root}/state
server:
  http_port: {http}
  grpc_port: {grpc}
  metrics_port: {metrics}
  limits: {{header_timeout_s: 2.0, body_timeout_s: 3.0, max_connections: {max_connections}}}
build: {{method: entropy, refine: false, mixed_precision: false, timeout_s: {build_timeout_s}}}
samples: {{minimum: 32, maximum: 200, max_bytes: 4MiB}}
swap: {{probation: {{window_s: 1.0, max_latency_ratio: 1000.0}}}}
drift:
  policy: recalibrate
  window: 40
  interval_s: 0.5
  minimum_interval_s: {drift_interval_s}
  daily_budget: 10000
  save_interval_s: 5.0
intake: {{settle_s: 0.3, rescan_s: 1.0}}
security: {{max_model_bytes: {max_model_bytes}}}
log: {{level: {level}}}
"""
DISK_BYTES = 64 << 20
MAX_MODEL_BYTES = 1 << 20
MAX_CONNECTIONS = 64  # fewer than come at once in an overload
BUILD_TIMEOUT_S = 30.0
START_LIMIT_S = 60.0
STOP_LIMIT_S = 45.0
ENDED_LIMIT_S = 10.0  # of the children of a daemon that was killed


class BoxError(Exception):
    """The daemon does not start: there is nothing to soak."""


@dataclass(frozen=True)
class Recorded:
    """What the registry's file says while no daemon runs."""

    live: dict[str, int] = field(default_factory=dict)
    committed: frozenset[tuple[str, int]] = frozenset()  # by events
    newest: dict[str, int] = field(default_factory=dict)
    rolled_back: frozenset[tuple[str, int]] = frozenset()
    digests: frozenset[str] = frozenset()  # of every version's float model
    events: dict[str, int] = field(default_factory=dict)  # by kind, how many


class Box:
    """One state folder and at most one daemon."""

    def __init__(self, root: Path, journal: Journal, disk: SmallDisk | None) -> None:
        self.root, self.disk, self._journal = root, disk, journal
        self.models, self.state = root / "models", root / "state"
        self.models.mkdir(exist_ok=True)
        self.config, self.log = root / "edgeq.yaml", root / "daemon.log"
        self.http, self.grpc, self.metrics = free_ports(3)
        self.write_config()
        self.process: subprocess.Popen[bytes] | None = None
        self.lives = 0
        self.client = DaemonClient(unix_socket=self.socket)
        self.turn = threading.RLock()  # of starting and ending

    @property
    def socket(self) -> Path:
        return self.state / "edgeq.sock"

    @property
    def pid(self) -> int:
        """The daemon's; 0 while there is none."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else 0

    def write_config(self, *, level: str = "info", drift_interval_s: float = 3.0) -> None:
        self.config.write_text(CONFIG.format(
            root=self.root, http=self.http, grpc=self.grpc, metrics=self.metrics, level=level,
            drift_interval_s=drift_interval_s, max_model_bytes=MAX_MODEL_BYTES,
            build_timeout_s=BUILD_TIMEOUT_S, max_connections=MAX_CONNECTIONS,
        ))  # fmt: skip

    def drop(self, content: bytes, name: str) -> None:
        """Write a model under a hidden name, then rename it."""
        part = self.models / f".{name}.part"
        part.write_bytes(content)
        part.rename(self.models / f"{name}.tflite")

    # ---- its life

    def start(self) -> float:
        """Start the daemon; return the seconds until it serves.

        Raises:
            BoxError: it does not.
        """
        begun, mark = time.monotonic(), self.log.stat().st_size if self.log.exists() else 0
        kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGEQ_")}
        command = [sys.executable, "-m", "edgeq", "run", "--config", str(self.config)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=self.root, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**kept, "PYTHONPATH": str(REPOSITORY)}, start_new_session=True,
            )  # fmt: skip
        while time.monotonic() - begun < START_LIMIT_S:
            if b"serving on" in self.log_since(mark):
                self.lives += 1
                return time.monotonic() - begun
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise BoxError(
            f"it does not serve: {self.log_since(mark)[-2000:].decode(errors='replace')}"
        )

    def log_since(self, mark: int) -> bytes:
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read()

    def kill(self) -> None:
        """End the daemon as a power cut does; wait until its children are gone, too."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        # One that was stopped before it asked to end with its parent looks for it when it goes on.
        for pid, _ in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if left := self.wait_for_children():
            self._journal.violate("children outlive a killed daemon", left)

    def stop(self) -> None:
        """End the daemon as its service manager does."""
        assert self.process is not None
        self.process.terminate()
        try:
            code = self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._journal.violate("it does not stop", f"within {STOP_LIMIT_S:g} s")
            self.kill()
            return
        if code:
            self._journal.violate("a stop that is not clean", f"exit code {code}")
        if left := self.wait_for_children():
            self._journal.violate("children outlive a stopped daemon", left)

    def close(self) -> None:
        """End whatever is left."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid, _ in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # ---- what is on the box

    def children(self) -> Iterator[tuple[int, str]]:
        """Yield pid and command line of every process that works on this box, but the daemon."""
        own = self.process.pid if self.process else 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                pid = int(path.parent.name)
                if (
                    str(self.root) in command
                    and "edgeq" in command
                    and pid not in (own, os.getpid())
                ):
                    yield pid, command.strip()

    def build_child(self) -> int:
        """Return the pid of a running build, 0 where there is none."""
        for pid, command in self.children():
            if " build " in command:
                return pid
        return 0

    def wait_for_children(self) -> list[str]:
        """Wait until no child is left; return those that stay."""
        until = time.monotonic() + ENDED_LIMIT_S
        while (left := [command for _, command in self.children()]) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    @property
    def used_bytes(self) -> int:
        """The state folder's size on its disk."""
        if self.disk is not None:
            return self.disk.used_bytes
        return sum(_size(path) for path in self.state.rglob("*"))

    def recorded(self) -> Recorded:
        """Read a copy of the registry's file; only while no daemon writes it."""
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            for path in self.state.glob("edgeq.db*"):
                shutil.copy(path, folder)
            with contextlib.closing(sqlite3.connect(Path(folder) / "edgeq.db")) as connection:
                return self._read(connection)

    def _read(self, connection: sqlite3.Connection) -> Recorded:
        if (found := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            self._journal.violate("the registry is damaged", found)
        live = connection.execute("SELECT name, version FROM versions WHERE state = 'committed'")
        events = "SELECT name, version FROM events WHERE kind = 'committed'"
        failed = "SELECT name, version FROM versions WHERE state = 'rolled_back'"
        newest = "SELECT name, newest FROM models"
        return Recorded(
            {name: int(version) for name, version in live.fetchall()},
            _pairs(connection.execute(events).fetchall()),
            {name: int(v) for name, v in connection.execute(newest).fetchall()},
            _pairs(connection.execute(failed).fetchall()),
            frozenset(d for (d,) in connection.execute("SELECT model_sha256 FROM versions")),
            dict(connection.execute("SELECT kind, count(*) FROM events GROUP BY kind").fetchall()),
        )  # fmt: skip

    def history(self, name: str) -> dict[str, Any]:
        """Return a model's versions and events."""
        return self.client.call("history", name=name)


def _pairs(rows: list[tuple[str, int | None]]) -> frozenset[tuple[str, int]]:
    return frozenset((name, int(version)) for name, version in rows if version is not None)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_blocks * 512
    return 0
