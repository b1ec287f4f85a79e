"""A folder -> edgeq's own daemon over it, as `edgeq run` starts it, with its defaults."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.serve_bench.clients import Target
from tools.serve_bench.processes import (
    Running,
    ServerError,
    free_ports,
    start,
    wait_until_ready,
)
from tools.serve_bench.wire import Connection, http_request

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = ("-m", "edgeq", "run")
CONFIG = """\
models_dir: {root}/models
state_dir: {root}/state
server: {{http_port: {http}, grpc_port: {grpc}, metrics_port: {metrics}{server}}}
intake: {{settle_s: 0.1, rescan_s: 1.0}}
"""
SERVED_LIMIT_S = 90.0


@dataclass(frozen=True)
class EdgeqDaemon:
    """A daemon that runs."""

    root: Path
    running: Running
    http_port: int
    grpc_port: int

    @property
    def unix_socket(self) -> Path:
        return self.root / "state/edgeq.sock"

    def target(self, model: str) -> Target:
        return Target(model, self.http_port, self.grpc_port, self.unix_socket)

    def drop(self, content: bytes, name: str) -> None:
        """Write a model under a hidden name, then rename it."""
        part = self.root / f"models/.{name}.part"
        part.write_bytes(content)
        part.rename(self.root / f"models/{name}.tflite")

    def status(self) -> dict[str, Any]:
        connection = Connection(self.unix_socket)
        try:
            return connection.ask(http_request("/edgeq/status", method="GET")).json
        finally:
            connection.close()

    def model(self, name: str) -> dict[str, Any]:
        """Return a model's status; empty while there is none."""
        found: dict[str, Any] = self.status()["models"].get(name, {})
        return found

    def wait_served(self, name: str, not_version: str = "") -> str:
        """Wait until a model serves, another version than the one named; return its version.

        Raises:
            ServerError: it does not in time.
        """
        deadline = time.monotonic() + SERVED_LIMIT_S
        while time.monotonic() < deadline:
            live = self.model(name).get("live") or {}
            if live and live["version"] != not_version:
                return str(live["version"])
            time.sleep(0.02)
        told = json.dumps(self.model(name))[:300]
        raise ServerError(f"{name} does not serve after {SERVED_LIMIT_S:g} s: {told}")


def start_edgeq(
    root: Path,
    *,
    extra: str = "",
    server: str = "",
    run: Sequence[str] = RUN,
    environ: Mapping[str, str] | None = None,
) -> EdgeqDaemon:
    """Start a daemon; `run` is what Python is given.

    `extra` is YAML of further sections, `server` of further keys of that one, after a comma.

    Raises:
        ServerError: it does not answer.
    """
    (root / "models").mkdir(parents=True, exist_ok=True)
    http, grpc, metrics = free_ports(3)
    text = CONFIG.format(root=root, http=http, grpc=grpc, metrics=metrics, server=server)
    config = root / "edgeq.yaml"
    config.write_text(text + extra)
    path = {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *run, "--config", str(config)]
    running = start(command, root, "edgeq", {**path, **(environ or {})})
    try:
        wait_until_ready(running, http, "/v2/health/ready")
    except ServerError:
        running.stop()
        raise
    return EdgeqDaemon(root, running, http, grpc)


def remove(root: Path) -> None:
    """Remove a stopped daemon's folders."""
    shutil.rmtree(root, ignore_errors=True)
