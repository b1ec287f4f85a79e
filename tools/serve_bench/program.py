"""The command line of `tools/bench_serve.py`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import edgeq
from edgeq.tflite.runtime import runtime_version
from tools.serve_bench.perf_analyzer import Sweep, run_perf_analyzer
from tools.serve_bench.processes import end_on_terminate, stop_all
from tools.serve_bench.rounds import Options, Row, rows_of, run_rounds, start_servers
from tools.serve_bench.servers import EDGEQ, SERVERS, Started
from tools.serve_bench.table import json_of, table_of
from tools.serve_bench.workloads import Workload, identity_workload, model_workload

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = REPOSITORY / ".tools/peers"
DIGITS = REPOSITORY / "tests/data/digits.tflite"
DIGITS_DATA = REPOSITORY / "tests/data/digits_samples.npz"
WORKLOADS = ("identity", "model")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=DIGITS, help="INT8 .tflite, or a float one to be built")
    add("--data", type=Path, default=DIGITS_DATA, help=".npz with x [N, ...]")
    add("--divide", type=float, default=1.0, help="x is divided by this for the float model")
    add("--workload", choices=WORKLOADS, default=None, help="only this one")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=3.0, help="of each measurement")
    add("--concurrency", type=_counts, default=(1, 4, 16), help="connections, e.g. 1,4,16")
    add("--cpus", type=_counts, default=None, help="cores for all, e.g. 0: no wake-ups in between")
    add("--only", default="", help="rows whose name holds one of these words, comma separated")
    add("--peers", type=Path, default=PEERS, help="folder of the peers' environments")
    add("--perf-analyzer", type=Path, default=None, help="Triton's load generator, beside ours")
    add("--json", type=Path, default=None, help="file for all figures")
    return parser


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _keep_to(cpus: Sequence[int]) -> None:
    """Run on these cores only; the servers and clients inherit it."""
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise SystemExit(f"--cpus {cpus}: {error.strerror}; there are {os.cpu_count()}") from error


def machine() -> dict[str, Any]:
    """Return where this ran, and how busy it was."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return {
        "processor": found[1] if found else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "edgeq": edgeq.__version__,
        "runtime": str(runtime_version()),
    }


def workloads_of(options: argparse.Namespace, folder: Path) -> list[Workload]:
    """Return the workloads that the options ask for."""
    found = []
    if options.workload in (None, "identity"):
        found.append(identity_workload(folder))
    if options.workload in (None, "model"):
        name = re.sub(r"[^\w-]", "_", options.model.stem)
        found.append(
            model_workload(name, options.model.resolve(), options.data, options.divide, folder)
        )
    return found


def bench(
    workload: Workload, options: Options, perf_analyzer: Path | None, work: Path
) -> tuple[list[Row], list[Sweep | str]]:
    """Measure one workload with all servers up at once."""
    rows = rows_of(SERVERS, workload, options)
    started: dict[str, Started] = {}
    try:
        start_servers(SERVERS, rows, workload, options, work, started)
        run_rounds(rows, started, workload, options, work)
        sweeps = []
        if perf_analyzer and EDGEQ in started:
            sweeps = analyze(perf_analyzer, started[EDGEQ], options, work)
        return rows, sweeps
    finally:
        stop_all([one.running for one in started.values() if one.running])


def analyze(program: Path, started: Started, options: Options, work: Path) -> list[Sweep | str]:
    """Return what perf_analyzer measures of edgeq over both protocols."""
    return [
        run_perf_analyzer(program, started.target, protocol, count, options.seconds, work)
        for protocol in ("http", "grpc")
        for count in options.concurrency
    ]


def sweep_lines(sweeps: Sequence[Sweep | str]) -> str:
    """Return perf_analyzer's figures as text."""
    lines = ["edgeq, by Triton's perf_analyzer"]
    for one in sweeps:
        lines.append(f"  {one}" if isinstance(one, str) else
                     f"  {one.protocol}, {one.concurrency} at a time: {one.rate:.0f} req/s, "
                     f"p50 {one.p50_ms:.3f} ms, p99 {one.p99_ms:.2f} ms")  # fmt: skip
    return "\n".join(lines)


def main(description: str) -> int:
    """Run the command line; 1 where edgeq itself failed a request."""
    options = make_parser(description).parse_args()
    end_on_terminate()
    if options.cpus:
        _keep_to(options.cpus)
    settings = Options(options.peers.resolve(), options.rounds, options.seconds,
                       options.concurrency, options.only)  # fmt: skip
    told: dict[str, Any] = {"machine": machine(), "rows": [], "perf_analyzer": []}
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as folder:
        work, is_well = Path(folder).resolve(), True
        for workload in workloads_of(options, work):
            rows, sweeps = bench(workload, settings, options.perf_analyzer, work)
            print(table_of(rows) + "\n", flush=True)
            if sweeps:
                print(sweep_lines(sweeps) + "\n", flush=True)
            told["rows"] += json_of(rows)
            told["perf_analyzer"] += [s if isinstance(s, str) else asdict(s) for s in sweeps]
            is_well &= not any(row.errors for row in rows if row.server == EDGEQ)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(__doc__ or ""))
