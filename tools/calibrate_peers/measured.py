"""What every peer's script shares: reads its job, measures the work, writes the report.

Standard library and numpy only, for it runs in each peer's own environment:

    python PEER.py JOB.json REPORT.json

Timed is what a user would wait for once the packages are imported and the samples are in memory.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): the peak of resident memory starts again from what there is now
REASON_LENGTH = 300


@dataclass(frozen=True)
class Job:
    """One thing to do: the model, what to feed it, the setting, where the result goes."""

    model: Path
    samples: tuple[np.ndarray, ...]  # one array for each input of the model, [N, *shape]
    setting: str
    threads: int
    out: Path
    folder: Path | None = None  # the samples as files, for tools that read them themselves

    def frames(self) -> list[list[np.ndarray]]:
        """Return the samples one by one: [N][inputs], each with its batch dimension."""
        return [list(frame) for frame in zip(*self.samples, strict=True)]


@dataclass
class Notes:
    """What a script has to say beside its figures."""

    lines: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


def resident_mib(name: str = "VmRSS") -> float:
    """Return VmRSS or VmHWM (its peak) in MiB; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0.0
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def read_job(path: Path) -> Job:
    fields = json.loads(path.read_text())
    samples = tuple(np.load(name) for name in fields.pop("samples"))
    folder = fields.pop("folder", None)
    paths = {"model": Path(fields.pop("model")), "out": Path(fields.pop("out"))}
    return Job(samples=samples, folder=Path(folder) if folder else None, **paths, **fields)


def measure(work: Callable[[Job, Notes], None], job: Job) -> dict[str, Any]:
    """Do the work; return its time, its memory, and why it did not get done."""
    notes = Notes()
    gc.collect()
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text(RESET_PEAK)
    base, wall, cpu = resident_mib(), time.perf_counter(), cpu_s()
    try:
        work(job, notes)
        outcome = {"status": "ok", "reason": ""}
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is its answer
        traceback.print_exc()
        outcome = {"status": "failed", "reason": reason(error)}
    return {
        **outcome,
        "seconds": time.perf_counter() - wall,
        "cpu_s": cpu_s() - cpu,
        "peak_rss_mib": resident_mib("VmHWM"),
        "above_mib": max(0.0, resident_mib("VmHWM") - base),
        "notes": notes.lines,
        "details": notes.details,
    }


def cpu_s() -> float:
    """Return the CPU time of all threads so far, and of the children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def reason(error: BaseException) -> str:
    """Return the kind of error and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:REASON_LENGTH]


def versions(packages: Sequence[str]) -> dict[str, str]:
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def main(work: Callable[[Job, Notes], None], *packages: str) -> None:
    """Run a script: JOB.json -> REPORT.json."""
    report = measure(work, read_job(Path(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps({**report, "versions": versions(packages)}))
