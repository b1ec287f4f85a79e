"""A real daemon that serves a model, under load -> what becomes of damaged copies of that model.

`python -m tests.faults.damaged_copies MODEL --data FILE.npz` drops seeded copies over the served
name and under names of their own, while a client asks all the time and holds each answer against
the sound model's. What a copy would answer is measured apart, in a child (measured.py).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.engines.cpu import CpuEngine
from tests.e2e.daemon import Daemon, infer
from tests.faults.copies import Copy, damaged_copies
from tests.faults.measured import Measured, measure
from tests.minisign import Signer

NAME = "model"
PACE_S = 0.02  # between two requests of the client
POLL_S = 0.01
OUTCOME_S = 120.0  # for one drop
WAVE = 40  # copies under names of their own that are dropped at once
QUICK = {"EDGEQ_INTAKE_SETTLE_S": "0.05", "EDGEQ_SWAP_PROBATION_WINDOW_S": "0.2"}
TOLERANCE = 1e-5
PROTECTIONS = ("none", "digest", "signature")
OVER, BESIDE = "over the served model", "under another name"


@dataclass(frozen=True)
class Outcome:
    """What the daemon did with one drop."""

    number: int
    kind: str
    where: str
    decision: str  # the stage of its quarantine, or "served"
    reason: str = ""


@dataclass
class Findings:
    """Everything that one run saw."""

    protection: str
    copies: int
    drops: int = 0
    table: dict[str, dict[str, int]] = field(default_factory=dict)
    measured: dict[str, dict[str, int]] = field(default_factory=dict)
    served: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: int = 0  # answers that are not the sound model's
    versions: list[str] = field(default_factory=list)  # that answered
    p99_ms: float = 0.0
    seconds: float = 0.0

    @property
    def is_sound(self) -> bool:
        """True where no request failed or was answered wrongly, and no harmful copy is served."""
        harmful = [one for one in self.served if one["measured"] == "beyond the gate"]
        is_strict = self.protection == "none" or not self.served
        return not (self.failed or self.wrong or harmful) and is_strict


class Client:
    """A thread that asks the served model until `stop`, and looks at every answer."""

    def __init__(self, daemon: Daemon, sound: CpuEngine, images: np.ndarray) -> None:
        self._daemon = daemon
        self._names = sound.inputs[0].name, sound.outputs[0].name
        self._images = images
        given = ({self._names[0]: image} for image in images)
        self._expected = [sound.infer(each)[self._names[1]] for each in given]
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self.versions: Counter[str] = Counter()
        self.wrong = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        client, turn = self._daemon.triton(), 0
        while not self._ended.wait(PACE_S):
            turn += 1
            started = time.monotonic()
            try:
                self._ask(client, turn % len(self._images))
            except Exception as error:  # noqa: BLE001 - whatever the client raises is a failure
                self.failed.append(repr(error))
            self.seconds.append(time.monotonic() - started)

    def _ask(self, client: Any, turn: int) -> None:
        tensor, output = self._names
        version, values = infer(client, NAME, tensor, self._images[turn], output)
        self.versions[version] += 1
        self.wrong += not np.allclose(values, self._expected[turn], atol=TOLERANCE)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


class Bench:
    """One daemon under one protection; `drop` hands it a copy, `outcome` says what it did."""

    def __init__(self, root: Path, model: bytes, protection: str) -> None:
        self.signer = Signer()
        keys = f'security: {{public_keys: ["{self.signer.public_key}"]}}\n'
        extra = keys if protection == "signature" else ""
        self.daemon = Daemon(root, capture_ratio=0.0, extra=extra)
        self._model = model
        self._protection = protection

    def protect(self, name: str, sha256: str) -> None:
        """Write what proves the sound model beside a drop of that name."""
        if self._protection == "digest":
            (self.daemon.models / f"{name}.yaml").write_text(f"sha256: {sha256}\n")
        if self._protection == "signature":
            signature = self.signer.sign(self._model, f"model:{name} version:1")
            (self.daemon.models / f"{name}.tflite.minisig").write_bytes(signature)

    def drop(self, name: str, content: bytes) -> None:
        part = self.daemon.models / f".{name}.part"
        part.write_bytes(content)
        part.rename(self.daemon.models / f"{name}.tflite")

    def wait_outcome(self, name: str, copy: Copy) -> tuple[str, str]:
        """Return the stage and reason of a copy's quarantine, or "served"."""
        reason = self.daemon.root / f"state/quarantine/{name}-{copy.sha256[:12]}/reason.json"
        deadline = time.monotonic() + OUTCOME_S
        while time.monotonic() < deadline:
            if reason.exists():
                said = json.loads(reason.read_bytes())
                return str(said["stage"]), str(said["error"])
            if self._is_served(name, copy):
                return "served", ""
            time.sleep(POLL_S)
        raise AssertionError(f"nothing became of copy {copy.number} ({copy.kind}) as {name!r}")

    def _is_served(self, name: str, copy: Copy) -> bool:
        """The registry is read as it lies there: asking the daemon would disturb what is timed."""
        with closing(
            sqlite3.connect(self.daemon.root / "state/edgeq.db", timeout=10.0)
        ) as database:
            query = "SELECT outcome FROM drops WHERE name = ? AND sha256 = ?"
            row = database.execute(query, (name, copy.sha256)).fetchone()
        return row is not None and row[0] == "accepted"


def run(
    model: Path,
    images: np.ndarray,
    count: int,
    seed: int,
    protection: str,
    *,
    measures_all: bool = True,
) -> Findings:
    """Drop the copies, each once over the served model and every third under its own name too.

    What they would answer is measured of all, or of those that are served against expectation.
    """
    content, started = model.read_bytes(), time.monotonic()
    copies = damaged_copies(content, count, seed)
    with tempfile.TemporaryDirectory() as scratch:
        findings = Findings(protection, len(copies))
        outcomes = _dropped(Path(scratch) / "box", content, images, copies, findings)
        served = {outcome.number for outcome in outcomes if outcome.decision == "served"}
        asked = [copy for copy in copies if measures_all or copy.number in served]
        measured = _measured(Path(scratch), model, images, asked)
    _sum_up(findings, outcomes, measured)
    findings.seconds = round(time.monotonic() - started, 1)
    return findings


def _measured(
    scratch: Path, model: Path, images: np.ndarray, copies: Sequence[Copy]
) -> dict[int, Measured]:
    folder, samples = scratch / "copies", scratch / "samples.npy"
    folder.mkdir()
    np.save(samples, images)
    for copy in copies:
        (folder / f"{copy.number:05}").write_bytes(copy.content)
    return {int(name): found for name, found in measure(model, samples, folder).items()}


def _dropped(
    root: Path, content: bytes, images: np.ndarray, copies: Sequence[Copy], findings: Findings
) -> list[Outcome]:
    bench = Bench(root, content, findings.protection)
    sound = CpuEngine(content, "float", threads=1)
    sha256 = Copy(0, "", content).sha256
    try:
        bench.daemon.start(QUICK)
        bench.protect(NAME, sha256)
        bench.drop(NAME, content)
        bench.daemon.wait_served(NAME)
        client = Client(bench.daemon, sound, images)
        try:
            outcomes = [*_over(bench, copies), *_beside(bench, copies[::3], sha256)]
        finally:
            client.stop()
        assert bench.daemon.process is not None
        assert bench.daemon.process.poll() is None, "the daemon ended"
    finally:
        bench.daemon.close()
    findings.requests, findings.failed = len(client.seconds), client.failed[:5]
    findings.wrong, findings.versions = client.wrong, sorted(client.versions)
    findings.p99_ms = round(float(np.percentile(client.seconds, 99)) * 1e3, 1)
    return outcomes


def _over(bench: Bench, copies: Sequence[Copy]) -> Iterator[Outcome]:
    for copy in copies:
        bench.drop(NAME, copy.content)
        decision, reason = bench.wait_outcome(NAME, copy)
        yield Outcome(copy.number, copy.kind, OVER, decision, reason)
        if decision == "served":
            bench.daemon.client.call("rollback", name=NAME)


def _beside(bench: Bench, copies: Sequence[Copy], sha256: str) -> Iterator[Outcome]:
    for start in range(0, len(copies), WAVE):
        wave = copies[start : start + WAVE]
        for copy in wave:
            bench.protect(f"copy{copy.number}", sha256)
            bench.drop(f"copy{copy.number}", copy.content)
        for copy in wave:
            decision, reason = bench.wait_outcome(f"copy{copy.number}", copy)
            yield Outcome(copy.number, copy.kind, BESIDE, decision, reason)


def _sum_up(findings: Findings, outcomes: Sequence[Outcome], measured: dict[int, Measured]) -> None:
    findings.drops = len(outcomes)
    for outcome in outcomes:
        row = findings.table.setdefault(f"{outcome.kind}, {outcome.where}", {})
        row[outcome.decision] = row.get(outcome.decision, 0) + 1
        found = measured.get(outcome.number, Measured("not measured"))
        if outcome.where == OVER:
            row = findings.measured.setdefault(outcome.kind, {})
            row[found.outcome] = row.get(found.outcome, 0) + 1
        if outcome.decision == "served":
            said = {"measured": found.outcome, "detail": found.detail}
            findings.served.append({**asdict(outcome), **said})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="an .npz with held-out inputs `x`")
    parser.add_argument("--divide", type=float, default=1.0, help="what inputs are divided by")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--copies", type=int, default=690)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--protect", choices=PROTECTIONS, default="none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    images = held_out(options.data, options.samples, options.divide)
    findings = run(options.model, images, options.copies, options.seed, options.protect)
    if options.json:
        print(json.dumps(asdict(findings), indent=1))
    else:
        _print(findings)
    return 0 if findings.is_sound else 1


def held_out(data: Path, count: int, divide: float = 1.0) -> np.ndarray:
    """Return inputs as the model takes them, [count, 1, ...]."""
    with np.load(data) as arrays:
        return (arrays["x"][:count].astype(np.float32) / np.float32(divide))[:, None]


def _print(findings: Findings) -> None:
    for kind, row in findings.measured.items():
        print(f"{kind}: " + ", ".join(f"{count} {what}" for what, count in row.items()))
    for kind, row in findings.table.items():
        print(f"{kind}: " + ", ".join(f"{count} {what}" for what, count in row.items()))
    for one in findings.served:
        print(f"served: {one}")
    said = f"{findings.requests} requests, {len(findings.failed)} failed, {findings.wrong} wrong"
    print(f"{said}; versions {findings.versions}; p99 {findings.p99_ms} ms; {findings.seconds} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
