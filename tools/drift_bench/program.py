"""The command line of `tools/bench_drift.py`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import edgeq
from tools.calibration_bench.environments import DEFAULT_FOLDER, MissingEnvironment, python_of
from tools.drift_bench.cases import TASKS, Case, load_case
from tools.drift_bench.cost import Costs, measure_costs
from tools.drift_bench.held import HeldAlarms, held_alarms
from tools.drift_bench.peers import REQUIREMENTS, Verdicts, compare
from tools.drift_bench.simulate import Detection, FalseAlarms, detections, false_alarms
from tools.drift_bench.table import (
    cost_table,
    detection_table,
    false_alarm_table,
    held_table,
    peers_table,
)

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
WINDOWS = (50, 200, 1000, 5000)
SIZES = (64, 512)  # of references, in frames
WINDOW = 200  # of the other questions
TIMES = (1, 5, 20)


@dataclass
class Found:
    """All figures of a run."""

    false_alarms: list[FalseAlarms] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    held: list[HeldAlarms] = field(default_factory=list)
    peers: list[Verdicts] = field(default_factory=list)
    costs: Costs | None = None


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=SHARED, metavar="DIR", help="with tasks.json and data/")
    add("--only", default="", metavar="A,B", help=f"of the tasks {', '.join(TASKS)}, these")
    add("--references", type=int, default=40, help="drawn for each row (default: 40)")
    add("--each", type=int, default=3, help="windows of each reference (default: 3)")
    add("--runs", type=int, default=12, help="of each drift (default: 12)")
    add("--held", action="store_true", help="frames that hang together, too")
    add("--peers", action="store_true", help="beside Evidently, whylogs and NannyML, too")
    add("--python", type=Path, metavar="FILE", help="of the peers (default: one is made)")
    add(
        "--environments",
        type=Path,
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"where it is made (default: {DEFAULT_FOLDER})",
    )
    add("--json", action="store_true", help="print the figures as JSON")
    return parser


def main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Run the program; 2 where something that it needs is missing."""
    options = make_parser(description).parse_args(arguments)
    names = options.only.split(",") if options.only else list(TASKS)
    if unknown := [name for name in names if name not in TASKS]:
        print(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}", file=sys.stderr)
        return 2
    if not (options.data / "tasks.json").is_file():
        print(f"{options.data} holds no tasks.json: give --data", file=sys.stderr)
        return 2
    found = Found(costs=measure_costs())
    try:
        for name in names:
            _say(f"{name}: counting its frames")
            _measure(load_case(options.data, name), options, found)
    except MissingEnvironment as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(_as_json(found), indent=1) if options.json else _as_text(found))
    return 0


def _measure(case: Case, options: argparse.Namespace, found: Found) -> None:
    for size in SIZES:
        _say(f"{case.name}: false alarms against {size} frames")
        found.false_alarms += false_alarms(case, options.references, size, WINDOWS, options.each)
        _say(f"{case.name}: drifts against {size} frames")
        found.detections += detections(case, options.runs, size, WINDOW)
    if options.held:
        _say(f"{case.name}: scenes that are shown for several frames")
        references = max(2, options.references // 5)
        found.held += held_alarms(case, references, SIZES[0], WINDOW, TIMES)
    if options.peers and not found.peers:  # one model is enough
        _say(f"{case.name}: the peers")
        python = options.python or python_of("drift", options.environments, REQUIREMENTS)
        size, each = max(SIZES), options.runs
        found.peers += compare(case, python, reference_frames=size, window=WINDOW, each=each)


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _as_json(found: Found) -> dict[str, Any]:
    return {"edgeq": edgeq.__version__, **asdict(found)}


def _as_text(found: Found) -> str:
    tables = [false_alarm_table(found.false_alarms), detection_table(found.detections)]
    tables += [held_table(found.held)] if found.held else []
    tables += [peers_table(found.peers)] if found.peers else []
    tables += [cost_table(found.costs)] if found.costs else []
    return "\n\n".join(tables)
