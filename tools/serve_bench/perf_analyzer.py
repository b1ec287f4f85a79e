"""Triton's perf_analyzer, where it can be had, against the daemon: a load generator not ours.

It is no package of its own: tritonclient's wheels carried it up to 2.60.0 (`bin/perf_analyzer`; the
one of 2.50.0 runs with glibc 2.36), and it wants libb64 and libcudart on LD_LIBRARY_PATH.
"""

from __future__ import annotations

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.serve_bench.clients import Target

LIMIT_S = 300.0
STABLE_PERCENT = "50"  # its own 10 ends with "Failed to obtain stable measurement" on a busy box
PERCENTILE_COLUMNS = ("p50 latency", "p99 latency")


@dataclass(frozen=True)
class Sweep:
    """One line of its report."""

    protocol: str
    concurrency: int
    rate: float
    p50_ms: float
    p99_ms: float


def run_perf_analyzer(
    program: Path, target: Target, protocol: str, concurrency: int, seconds: float, folder: Path
) -> Sweep | str:
    """Return what it measured, or why it did not."""
    port = target.http_port if protocol == "http" else target.grpc_port
    report = folder / f"perf_analyzer-{protocol}-{concurrency}.csv"
    command = [
        str(program), "-m", target.model, "-u", f"127.0.0.1:{port}", "-i", protocol,
        "--concurrency-range", str(concurrency), "-p", str(int(seconds * 1000)),
        "-s", STABLE_PERCENT, "-f", str(report),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:200]
    if done.returncode or not report.exists():
        return (f"{done.stdout}\n{done.stderr}".strip().splitlines() or ["it said nothing"])[-1]
    return read_report(report, protocol)


def read_report(path: Path, protocol: str) -> Sweep | str:
    """Return the first line of its CSV; latencies there are microseconds."""
    with path.open(newline="") as lines:
        row = next(csv.DictReader(lines), None)
    if row is None:
        return "its report is empty"
    p50, p99 = (float(row[column]) / 1000 for column in PERCENTILE_COLUMNS)
    rate = float(row["Inferences/Second"])
    return Sweep(protocol, int(row["Concurrency"]), rate, p50, p99)
