"""A real daemon in a process of its own, over a folder of the test's, and a client for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton

from edgeq.cli.client import DaemonClient

CONFIG = """\
models_dir: {root}/models
state_dir: {root}/state
server: {{http_port: {port}, grpc_port: 0, metrics_port: 0}}
build: {{method: entropy, refine: false}}
samples: {{minimum: 40, maximum: 400, capture_ratio: {capture_ratio}}}
swap: {{instances: 2, probation: {{window_s: 1.0}}}}
drift: {{policy: "off"}}
intake: {{settle_s: 0.3, rescan_s: 1.0}}
"""
WAIT_S = 60.0

Status = dict[str, Any]


class Daemon:
    """One state folder; `start` and `stop` (or `kill`) as often as the test likes."""

    def __init__(
        self, root: Path, *, port: int = 0, capture_ratio: float = 1.0, extra: str = ""
    ) -> None:
        self.root = root
        self.models = root / "models"
        self.models.mkdir(parents=True, exist_ok=True)
        self.config = root / "edgeq.yaml"
        text = CONFIG.format(root=root, port=port, capture_ratio=capture_ratio)
        self.config.write_text(text + extra)
        self.log: list[str] = []
        self.http_port = self.metrics_port = self.grpc_port = 0
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._clients: list[triton.InferenceServerClient] = []

    @property
    def client(self) -> DaemonClient:
        return DaemonClient(unix_socket=self.root / "state/edgeq.sock")

    def start(self, environment: Mapping[str, str] | None = None) -> float:
        """Start and return the seconds until it serves."""
        started = time.monotonic()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGEQ_")}
        command = [sys.executable, "-m", "edgeq", "run", "--config", str(self.config)]
        self.process = self._spawn(command, {**kept, **(environment or {})})
        self._reader = threading.Thread(target=self._read_log, args=(self.process,))
        mark = len(self.log)
        self._reader.start()
        line = self._wait_for_line("serving on", mark)
        words = line.split("serving on ")[1].split(", ")
        named = [word for word in words if not word.startswith("socket ")]
        ports = [int(word.rsplit(":", 1)[1]) for word in named] + [0]  # 0: no gRPC
        self.http_port, self.metrics_port, self.grpc_port = ports[:3]
        return time.monotonic() - started

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            self.log.extend(lines)

    def _wait_for_line(self, text: str, mark: int) -> str:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for line in self.log[mark:]:
                if text in line:
                    return line
            assert self.process is not None
            assert self.process.poll() is None, "the daemon ended:\n" + "".join(self.log[mark:])
            time.sleep(0.01)
        raise AssertionError(f"{text!r} was not logged:\n" + "".join(self.log[mark:]))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait, and return the exit code."""
        assert self.process is not None
        assert self._reader is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(10)
        return code

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def drop(self, source: Path, name: str) -> None:
        """Put a model into the folder as a careful person does: write, then rename."""
        part = self.models / f".{name}.part"
        shutil.copy(source, part)
        part.rename(self.models / f"{name}.tflite")

    def status(self) -> Status:
        return self.client.status()

    def wait(
        self, what: str, is_so: Callable[[Status], bool], *, within_s: float = WAIT_S
    ) -> Status:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            status = self.status()
            if is_so(status):
                return status
            time.sleep(0.05)
        text = json.dumps(status, indent=1)[:4000]
        raise AssertionError(f"not seen: {what}\n{text}\n" + "".join(self.log[-30:]))

    def wait_served(self, name: str, engine: str = "", not_version: str = "") -> Status:
        """Wait until a model serves (with that engine, with another version); return its status."""

        def is_served(status: Status) -> bool:
            live = status["models"].get(name, {}).get("live")
            return bool(live) and engine in ("", live["engine"]) and live["version"] != not_version

        return self.wait(f"{name} {engine} served", is_served)["models"][name]

    def triton(self) -> triton.InferenceServerClient:
        client = triton.InferenceServerClient(f"127.0.0.1:{self.http_port}")
        self._clients.append(client)
        return client


def infer(
    client: triton.InferenceServerClient, name: str, tensor: str, values: np.ndarray, output: str
) -> tuple[str, np.ndarray]:
    """Return the version that answered, and its output."""
    given = triton.InferInput(tensor, list(values.shape), "FP32")
    given.set_data_from_numpy(values, binary_data=True)
    wanted = triton.InferRequestedOutput(output, binary_data=True)
    result = client.infer(name, [given], outputs=[wanted])
    answer = result.as_numpy(output)
    assert answer is not None
    return str(result.get_response()["model_version"]), answer
