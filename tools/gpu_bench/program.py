"""The command lines of `tools/bench_gpu.py` and `tools/gpu_check`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import edgeq
from edgeq.errors import EdgeqError
from tools.gpu_bench import bench, checks
from tools.gpu_bench.bench import Plan, Results
from tools.gpu_bench.children import Answer, Clock
from tools.gpu_bench.contestants import LAYERS, WHOLE_NETS
from tools.gpu_bench.models import int8_content, model_files
from tools.gpu_bench.table import checks_text, table_of, verdict_of
from tools.workloads.nets import WORKLOADS
from tools.workloads.quantized import write_workloads

BATCHES = (1, 8, 32)
MODES = ("default", "max-autotune-no-cudagraphs")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all options."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", type=Path, nargs="*", default=[], metavar="FILE|FOLDER",
        help="more .tflite files, float or INT8")  # fmt: skip
    names = [workload.name for workload in WORKLOADS]
    add("--workloads", nargs="*", choices=names, default=names, metavar="NAME",
        help=f"of the nets with random weights, these (all: {' '.join(names)})")  # fmt: skip
    add("--batches", type=int, nargs="+", default=list(BATCHES), metavar="N")
    everyone = [*WHOLE_NETS, *LAYERS]
    add("--contestants", nargs="*", choices=everyone, default=everyone, metavar="NAME",
        help=f"of {', '.join(everyone)}, these")  # fmt: skip
    add("--seconds", type=float, default=1.0, help="of each timing (default: 1)")
    add("--child-limit", type=float, default=240.0, metavar="SECONDS", help="of one measurement")
    add("--limit", type=float, default=1500.0, metavar="SECONDS", help="of the whole run")
    add("--compile-mode", choices=MODES, default=MODES[0], help="of torch.compile")
    add("--json", type=Path, metavar="FILE", help="where all figures go")
    return parser


def bench_main(description: str) -> int:
    """Time the nets; print a table, write the JSON."""
    options = make_parser(description).parse_args()
    clock = Clock.start(options.limit)
    with tempfile.TemporaryDirectory() as folder:
        models = gather(options.workloads, options.models, Path(folder))
        device = checks.device(clock)
        results = measured(options, models, clock)
    report = {**about(device, clock), **as_json(results)}
    write(options.json, report)
    print(heading(device), table_of(results), sep="\n\n")
    return 0 if device["status"] == "ok" else 1


def check_main(description: str) -> int:
    """Check the op table and all models bit for bit, then time the nets."""
    parser = make_parser(description)
    parser.add_argument("--no-bench", action="store_true", help="check only")
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="of the op table (default: all)")
    options = parser.parse_args()
    clock = Clock.start(options.limit)
    with tempfile.TemporaryDirectory() as folder:
        models = gather(options.workloads, options.models, Path(folder))
        device = checks.device(clock)
        report: dict[str, Any] = about(device, clock)
        print(heading(device), flush=True)
        if device["status"] != "ok":
            write(options.json, report)
            return 1
        agree = _checked(report, options.rows, models, clock)
        write(options.json, report)  # what follows may be cut short from outside
        if not options.no_bench:
            results = measured(options, models, clock)
            report |= as_json(results)
            print(table_of(results), sep="\n\n")
    report["seconds"] = round(clock.spent_s, 1)
    write(options.json, report)
    return 0 if agree else 1


def _checked(
    report: dict[str, Any],
    rows: Sequence[str] | None,
    models: Sequence[tuple[str, Path]],
    clock: Clock,
) -> bool:
    from tools.gpu_bench.op_table import NAMES  # it imports the engine

    report["op_table"] = checks.check_op_table(NAMES if rows is None else rows, clock)
    print(f"op table: {checks_text(report['op_table'])}", flush=True)
    report["models"] = checks.check_models(models, clock)
    print(f"models: {checks_text(report['models'])}\n", flush=True)
    verdicts = {verdict_of(row) for row in [*report["op_table"], *report["models"]]}
    return verdicts <= {"bit for bit", "on the CPU"}


def gather(
    workloads: Sequence[str], places: Sequence[Path], folder: Path
) -> list[tuple[str, Path]]:
    """Make the workloads and write every model as INT8 into the folder; return names and files.

    What is no model is left out, with a line on stderr.
    """
    made = write_workloads(folder / "workloads", workloads) if workloads else []
    models = [(path.stem, path) for path in made]
    for file in model_files(places):
        path = folder / f"{len(models)}.tflite"
        try:
            path.write_bytes(int8_content(file.read_bytes()))
        except EdgeqError as error:
            print(f"{file}: {error.message}", file=sys.stderr)
            continue
        models.append((file.stem, path))
    return models


def measured(
    options: argparse.Namespace, models: Sequence[tuple[str, Path]], clock: Clock
) -> Results:
    """Run the benchmark, telling on stderr where it is."""
    plan = Plan(
        models=models,
        batches=options.batches,
        nets=[name for name in WHOLE_NETS if name in options.contestants],
        layers=[name for name in LAYERS if name in options.contestants],
        seconds=options.seconds,
        limit_s=options.child_limit,
        mode=options.compile_mode,
    )
    nets, layers = [], []
    for found in bench.run(plan, clock):
        nets += found.nets
        layers += found.layers
        last = found.nets[-1] if found.nets else None
        if last is not None:
            print(f"{clock.spent_s:6.0f} s: {last.model}, batch {last.batch}", file=sys.stderr)
    return Results(tuple(nets), tuple(layers))


def about(device: Answer, clock: Clock) -> dict[str, Any]:
    """Return what the figures belong to."""
    return {
        "edgeq": edgeq.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device.get("device"),
        "reason": device.get("reason", ""),
        "limit_s": clock.limit_s,
    }


def heading(device: Answer) -> str:
    """Return the line about the GPU."""
    if device["status"] != "ok":
        return f"no GPU that can be used: {device['reason']}"
    found = device["device"]
    return (
        f"{found['name']} ({found['target']}, {found['multiprocessors']} multiprocessors), "
        f"CUDA {'.'.join(map(str, found['driver']))}; peaks of {found['board']}: "
        f"{found['int8_tops']:.0f} INT8 TOPS, {found['gigabytes_per_s']:.0f} GB/s"
    )


def as_json(results: Results) -> dict[str, Any]:
    """Return the rows as JSON holds them."""
    return {
        "nets": [asdict(row) for row in results.nets],
        "layers": [asdict(row) for row in results.layers],
    }


def write(path: Path | None, report: dict[str, Any]) -> None:
    """Write the report, where a file was named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
