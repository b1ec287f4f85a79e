"""A real daemon that serves a model, under load -> what thousands of drops at once do to it.

`python -m tests.faults.drop_flood --drops 3000` fills the drop folder with everything that is no
good drop, and with good ones under ever new names, while a client asks; then the served model is
updated, and its update must not wait for the flood.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tests.e2e.daemon import Daemon, infer

DATA = Path(__file__).resolve().parents[1] / "data"
NAME = "digits"
PACE_S = 0.01
QUICK = {"EDGEQ_INTAKE_SETTLE_S": "0.2", "EDGEQ_INTAKE_MAX_MODELS": "8"}
UPDATE_S = 60.0

Make = Callable[[Path, int], None]  # (the drop folder, a number)


@dataclass(frozen=True)
class Use:
    """What the daemon holds."""

    rss_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Use:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        said = dict(line.split(":", 1) for line in status)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(int(said["VmRSS"].split()[0]) << 10, descriptors, int(said["Threads"]))


@dataclass(frozen=True)
class Findings:
    """Everything that one run saw."""

    drops: int
    quiet_p99_ms: float
    flood_p99_ms: float
    update_s: float  # from the drop of a newer version in mid-flood until it served
    decided: int  # quarantined or accepted by then
    failed: list[str]
    before: Use
    after: Use
    models: int
    quarantined: int  # entries kept


class Client:
    """Asks the served model until `stop`; the times of its requests since the last `lap`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        with np.load(DATA / "digits_samples.npz") as arrays:
            self._image = arrays["x"][:1].astype(np.float32)
        self._ended = threading.Event()
        self._seconds: list[float] = []
        self.failed: list[str] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        client = self._daemon.triton()
        while not self._ended.wait(PACE_S):
            started = time.monotonic()
            try:
                infer(client, NAME, "image", self._image, "scores")
            except Exception as error:  # noqa: BLE001 - whatever the client raises is a failure
                self.failed.append(repr(error))
            self._seconds.append(time.monotonic() - started)

    def lap(self, requests: int) -> float:
        """Wait until so many were answered since the last lap; return their p99 in ms."""
        deadline = time.monotonic() + UPDATE_S
        while len(self._seconds) < requests and time.monotonic() < deadline:
            time.sleep(0.01)
        seconds, self._seconds = self._seconds, []
        return round(float(np.percentile(seconds, 99)) * 1e3, 1)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def _write(content: bytes) -> Make:
    def make(models: Path, number: int) -> None:
        (models / f"f{number}.tflite").write_bytes(content)

    return make


def _named(name: Callable[[int], bytes]) -> Make:
    def make(models: Path, number: int) -> None:
        (models / os.fsdecode(name(number))).write_bytes(b"x")

    return make


def _sparse(models: Path, number: int) -> None:
    with (models / f"f{number}.tflite").open("wb") as file:
        file.truncate(1 << 40)


def _pipe(models: Path, number: int) -> None:
    os.mkfifo(models / f"f{number}.tflite")


def _link(target: str) -> Make:
    return lambda models, number: (models / f"f{number}.tflite").symlink_to(target)


def _folder(models: Path, number: int) -> None:
    (models / f"f{number}.tflite").mkdir()


def _planted_status(models: Path, number: int) -> None:
    """The daemon writes its own there: into a link, or in the place of a folder."""
    (models / f"f{number}.tflite").write_bytes(b"Dear all, no model here.\n")
    if number % 2:
        (models / f"f{number}.status.json").symlink_to("/dev/full")
    else:
        (models / f"f{number}.status.json" / "inner").mkdir(parents=True)


def _hostile_sidecar(models: Path, number: int) -> None:
    (models / f"f{number}.tflite").write_bytes((DATA / "digits.tflite").read_bytes())
    aliases = "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a]\n" + "[" * 3000
    (models / f"f{number}.yaml").write_text(aliases)


def makers() -> tuple[Make, ...]:
    """Return one maker for each kind of thing that a folder may be flooded with."""
    good = (DATA / "digits.tflite").read_bytes()
    return (
        _write(b"Dear all, the model is in the other folder.\n"),
        _write(good[: len(good) // 2]),
        _write(good),
        _write(b""),
        _named(lambda number: b"bad\nname\x1b[31m%d.tflite" % number),
        _named(lambda number: b"\xff\xfe%d.tflite" % number),
        _named(lambda number: b"x" * 240 + b"%08d.tflite" % number),
        _sparse,
        _pipe,
        _link("/etc/passwd"),
        _link("nowhere"),
        _folder,
        _planted_status,
        _hostile_sidecar,
    )


def run(root: Path, drops: int, requests: int) -> Findings:
    """Flood a daemon's folder, update what it serves meanwhile, and look at it then."""
    daemon = Daemon(root, capture_ratio=0.0)
    try:
        daemon.start(QUICK)
        daemon.drop(DATA / "digits.tflite", NAME)
        daemon.wait_served(NAME)
        assert daemon.process is not None
        client = Client(daemon)
        try:
            quiet = client.lap(requests)
            before = Use.of(daemon.process.pid)
            kinds = makers()
            for number in range(drops):
                kinds[number % len(kinds)](daemon.models, number)
            _wait_decided(daemon, min(drops, 5))
            client.lap(1)
            started = time.monotonic()
            daemon.drop(DATA / "digits_v2.tflite", NAME)
            daemon.wait_served(NAME, not_version="1")
            update_s = time.monotonic() - started
            decided = _decided(daemon)
            flood = client.lap(requests)
        finally:
            client.stop()
        return Findings(
            drops=drops,
            quiet_p99_ms=quiet,
            flood_p99_ms=flood,
            update_s=round(update_s, 2),
            decided=decided,
            failed=client.failed[:5],
            before=before,
            after=Use.of(daemon.process.pid),
            models=len(daemon.status()["models"]),
            quarantined=len(daemon.status()["quarantine"]),
        )
    finally:
        daemon.close()


def _decided(daemon: Daemon) -> int:
    return sum("drop quarantined" in line or "drop accepted" in line for line in daemon.log)


def _wait_decided(daemon: Daemon, count: int) -> None:
    deadline = time.monotonic() + UPDATE_S
    while _decided(daemon) < count:
        assert time.monotonic() < deadline, "the flood was not looked at"
        time.sleep(0.02)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=3000)
    parser.add_argument("--requests", type=int, default=1000, help="in each of the two laps")
    options = parser.parse_args(arguments)
    root = Path(tempfile.mkdtemp())
    try:
        findings = run(root, options.drops, options.requests)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(asdict(findings), indent=1))
    return 1 if findings.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
