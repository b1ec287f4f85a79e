"""A real Prometheus in a process of its own, with the rules that are shipped, over daemons."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

import yaml

SHIPPED = Path(__file__).resolve().parents[2] / "configs" / "prometheus"
WAIT_S = 60.0

Json = dict[str, Any]


class Prometheus:
    """Scrapes a daemon, twice a second; the configuration is the shipped one otherwise."""

    def __init__(
        self, folder: Path, tools: Path, target: str, *, every: str = "500ms", instance: str = ""
    ) -> None:
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
        config["rule_files"] = [str(SHIPPED / name) for name in config["rule_files"]]
        labels = {"instance": instance} if instance else {}
        static = {"targets": [target], "labels": labels}
        config["scrape_configs"][0]["static_configs"] = [static]
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(config))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        command = [
            tools / "prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)

    def body(self, path: str, **parameters: str | float) -> bytes:
        """Return what the API answers, an error among it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            return connection.getresponse().read()
        finally:
            connection.close()

    def get(self, path: str, **parameters: str | float) -> Json:
        """Return the same, read."""
        return dict(json.loads(self.body(path, **parameters)))

    def wait_up(self) -> list[Json]:
        """Return the targets, once each has been scraped."""
        deadline = time.monotonic() + WAIT_S
        targets: list[Json] = []
        while time.monotonic() < deadline:
            try:
                targets = self.get("targets")["data"]["activeTargets"]
            except (OSError, ValueError, KeyError):  # it starts
                targets = []
            if targets and all(target["health"] == "up" for target in targets):
                return targets
            time.sleep(0.05)
        raise AssertionError(f"not scraped: {targets}")

    def values(self, expression: str, *, over_s: float = 0.0) -> list[Json]:
        """Return the series of an expression, now or over time; fails where it is an error."""
        now = time.time()
        if over_s:
            answer = self.get("query_range", query=expression, start=now - over_s, end=now, step=1)
        else:
            answer = self.get("query", query=expression)
        assert answer["status"] == "success", f"{expression}\n{answer}"
        assert not answer.get("warnings"), f"{expression}\n{answer['warnings']}"
        return list(answer["data"]["result"])
