"""The command line of `tools/bench_calibrate.py`."""

from __future__ import annotations

import argparse
import json
import math
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
from tools.calibration_bench.bench import Options, Row, bench
from tools.calibration_bench.cases import Case, case_of_files, own_cases
from tools.calibration_bench.cost import cost_table, measure_costs
from tools.calibration_bench.environments import DEFAULT_FOLDER
from tools.calibration_bench.evalkit_tasks import cases_of_tasks
from tools.calibration_bench.peers import chosen
from tools.calibration_bench.table import table_of

LIMIT_S = 900.0
RESAMPLES = 1000


def named_file(text: str) -> tuple[str, Path]:
    """Read NAME=FILE.tflite, or FILE.tflite under its own name."""
    name, separator, path = text.rpartition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path!r}")
    name = name if separator else Path(path).stem
    if not re.fullmatch(r"[\w.-]+", name):
        raise argparse.ArgumentTypeError(f"{name!r} cannot name a model: files are named after it")
    return name, Path(path)


def existing(text: str) -> Path:
    """Read a path that is there."""
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text!r}")
    return path.resolve()


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        type=named_file,
        action="append",
        default=[],
        metavar="NAME=FILE.tflite",
        help="float model, may be repeated (default: the repository's own)",
    )
    add("--samples", type=existing, metavar="DIR|FILE", help="as `edgeq build --samples`")
    add("--data", type=existing, metavar="FILE.npz", help="x and y, as `edgeq eval --data`")
    add("--tasks", type=existing, metavar="DIR", help="a folder with tasks.json and evalkit.py")
    add("--only", default="", metavar="A,B", help="of the tasks, these")
    add("--peers", default="", metavar="A,B", help="of the tools, these")
    add(
        "--environments",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"the peers' virtual environments, made where missing (default: {DEFAULT_FOLDER})",
    )
    add("--threads", type=int, default=1, help="of every tool (default: 1)")
    add(
        "--limit",
        type=float,
        default=LIMIT_S,
        metavar="S",
        help=f"a tool that takes longer is stopped (default: {LIMIT_S:g} s)",
    )
    add(
        "--bootstrap",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help=f"resamples of the paired standard error, 0: none (default: {RESAMPLES})",
    )
    add("--keep", type=Path, metavar="DIR", help="keep every tool's model there")
    add(
        "--cost",
        action="store_true",
        help="measure what edgeq's calibration costs instead: time, memory, search",
    )
    add("--json", action="store_true", help="print one JSON object")
    return parser  # fmt: skip


def cases_of(options: argparse.Namespace, folder: Path) -> list[Case]:
    """Return what is to be measured."""
    if options.tasks:
        only = [name for name in options.only.split(",") if name]
        return cases_of_tasks(options.tasks, only, folder)
    if not options.model:
        return own_cases(folder)
    if options.samples is None or options.data is None:
        raise SystemExit("--model needs --samples and --data")
    return [
        case_of_files(name, path, options.samples, options.data, folder)
        for name, path in options.model
    ]


def machine() -> dict[str, Any]:
    """Return where this ran."""
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return {
        "processor": found[1] if found else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "edgeq": edgeq.__version__,
        "runtime": str(runtime_version()),
    }


def run_bench(options: argparse.Namespace, folder: Path) -> None:
    """Measure the peers and print the table."""
    settings = Options(
        options.environments.resolve(), options.threads, options.limit, options.bootstrap,
        options.keep.resolve() if options.keep else None,
    )  # fmt: skip
    rows: list[Row] = []
    for case in cases_of(options, folder):
        rows += bench(case, chosen(options.peers), settings, folder)
        if not options.json:
            print(table_of([row for row in rows if row.model == case.name]) + "\n", flush=True)
    if options.json:
        print_json(options, "rows", rows)


def run_cost(options: argparse.Namespace, folder: Path) -> None:
    """Measure edgeq's own cost and print the table."""
    cases = cases_of(options, folder)
    costs = list(measure_costs(cases, options.threads, options.limit, folder))
    if options.json:
        print_json(options, "cost", costs)
    else:
        print(cost_table(costs))


def print_json(options: argparse.Namespace, name: str, results: Sequence[Any]) -> None:
    """Print one object: where it was measured, with how many threads, and the results."""
    head = {"machine": machine(), "threads": options.threads}
    told = finite({**head, name: [asdict(result) for result in results]})
    print(json.dumps(told, indent=1, allow_nan=False))


def finite(value: Any) -> Any:
    """Return the value with null for what JSON has no number for, such as the SQNR of a copy."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def main(description: str) -> int:
    """Run the command line."""
    options = make_parser(description).parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as folder:
        (run_cost if options.cost else run_bench)(options, Path(folder).resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__))
