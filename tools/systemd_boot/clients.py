"""Inside the booted system: commands, what systemd and edgeq say, and clients that never stop."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PYTHON = "/opt/edgeq/bin/python"
CONFIG = Path("/etc/edgeq/edgeq.yaml")
PORT = 8000
BODY = json.dumps(
    {"inputs": [{"name": "image", "shape": [1, 16, 16, 1], "datatype": "FP32", "data": [0] * 256}]}
).encode()
WAIT_S = 60.0


def call(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


def shown(*properties: str, unit: str = "edgeq.service") -> list[str]:
    """Return what `systemctl show` says of a unit, in the order asked for."""
    names = [f"--property={name}" for name in properties]
    lines = call("systemctl", "show", unit, *names).stdout.splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values.get(name, "") for name in properties]


def wait_for(what: str, is_so: Callable[[], bool], within_s: float = WAIT_S) -> float:
    """Wait, and return the seconds it took."""
    started = time.monotonic()
    while not is_so():
        if time.monotonic() - started > within_s:
            journal = call("journalctl", "-u", "edgeq", "-n", "15", "--no-pager", check=False)
            raise AssertionError(f"not within {within_s:g} s: {what}\n{journal.stdout}")
        time.sleep(0.02)
    return time.monotonic() - started


def edgeq(*arguments: str) -> str:
    return call("/opt/edgeq/bin/edgeq", *arguments, "--config", str(CONFIG)).stdout


def live() -> dict[str, Any]:
    """Return what serves `digits`, {} where nothing does."""
    model = json.loads(edgeq("status", "--json"))["models"].get("digits", {})
    return model.get("live") or {}


def ask(connection: http.client.HTTPConnection) -> tuple[str, str]:
    """Return status and engine of one inference."""
    connection.request("POST", "/v2/models/digits/infer", BODY)
    response = connection.getresponse()
    response.read()
    return str(response.status), response.getheader("X-Edgeq-Engine", "")


def is_ready() -> bool:
    active, sub = shown("ActiveState", "SubState")
    return (active, sub) == ("active", "running")


class Load:
    """Clients that never stop: one on a kept connection, one on a new connection each time."""

    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self.longest_s = 0.0
        self._is_over = False
        self._threads = [
            threading.Thread(target=self._run, args=(is_kept,)) for is_kept in (True, False)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_for("answers under load", lambda: self.answered > 50 or bool(self.failures))
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(WAIT_S)

    def _run(self, is_kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        while not self._is_over:
            started = time.monotonic()
            try:
                status, _ = ask(connection)
            except OSError as error:
                self.failures.append(repr(error))
                connection.close()
            except http.client.HTTPException as error:
                self.failures.append(repr(error))
                connection.close()
            else:
                self.answered += 1
                if status != "200":
                    self.failures.append(status)
            self.longest_s = max(self.longest_s, time.monotonic() - started)
            if not is_kept:
                connection.close()

    def more(self) -> None:
        """Wait for answers that were asked for from now on."""
        target = self.answered + 50
        wait_for("more answers", lambda: self.answered > target)

    def found(self) -> str:
        assert not self.failures, f"{len(self.failures)} failed: {self.failures[:5]}"
        return f"{self.answered} answered, 0 failed, the longest took {self.longest_s:.2f} s"


def configured(key: str) -> Path:
    """Return a path of the configuration, e.g. 'models_dir'."""
    program = "import sys; from pathlib import Path; from edgeq.config import load;"
    program += "print(getattr(load(Path(sys.argv[1]), {}), sys.argv[2]))"
    return Path(call(PYTHON, "-c", program, str(CONFIG), key).stdout.strip())


def set_schema(registry: Path, difference: int) -> None:
    """Set a registry's schema to that of this edgeq, plus `difference`."""
    program = "import sqlite3, sys; from edgeq.registry.migrations import SCHEMA_VERSION as s;"
    program += "c = sqlite3.connect(sys.argv[1]);"
    program += "c.execute(f'PRAGMA user_version = {s + int(sys.argv[2])}')"
    call(PYTHON, "-c", program, str(registry), str(difference))
