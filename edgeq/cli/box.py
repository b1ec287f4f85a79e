"""run, check-config, doctor: the daemon itself, and what this box offers it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import edgeq
from edgeq import log
from edgeq.cli.arguments import (
    Subparsers,
    add_command,
    add_config,
    add_json,
    environment,
    existing_file,
    load_config,
)
from edgeq.cli.devices import drop_in, gpu_devices
from edgeq.cli.output import print_json, print_table, printable
from edgeq.config import cautions, load
from edgeq.daemon.loop import Daemon
from edgeq.engines.cuda.gpu import presence
from edgeq.engines.cuda.gpu.mending import read_platform
from edgeq.engines.table import BACKENDS, CUDA
from edgeq.errors import EdgeqError
from edgeq.intake import child, sandbox
from edgeq.observe.board import sources
from edgeq.observe.board_watch import BoardWatch
from edgeq.tflite.runtime import runtime_version

PRIVATE = 0o077  # of the daemon and its children: samples, models and the registry are its own
FALLBACK_COST = (
    "tflite-runtime runs INT8 without XNNPACK (5 to 16 times slower) and crashes on damaged files"
)

SENSOR_FORMATS = {
    "device_temperature_celsius": "{:.0f} C".format,
    "device_gpu_utilization_ratio": "{:.0%} busy".format,
    "device_power_watts": "{:.2f} W".format,
}


def register(commands: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        commands, "run", run_daemon,
        help="the daemon, in the foreground", example="edgeq run --config /etc/edgeq/edgeq.yaml",
    )  # fmt: skip
    add_config(parser)
    parser = add_command(
        commands, "check-config", run_check_config,
        help="validate a configuration file", example="edgeq check-config /etc/edgeq/edgeq.yaml",
    )  # fmt: skip
    parser.add_argument("file", type=Path, metavar="FILE")
    add_json(parser)
    parser = add_command(
        commands, "doctor", run_doctor,
        help="hardware, runtimes, what is usable and why not", example="edgeq doctor",
    )  # fmt: skip
    parser.add_argument(
        "--systemd",
        action="store_true",
        help="print a drop-in that allows this box's GPU devices alone",
    )
    add_json(parser)


def run_daemon(options: argparse.Namespace) -> int:
    """`edgeq run`."""
    config = load_config(options)
    log.configure(config.log.format, config.log.level)
    path = options.config or os.environ.get("EDGEQ_CONFIG")
    before = os.umask(PRIVATE)
    try:
        Daemon(Path(path) if path else None, environment()).run()
    finally:
        os.umask(before)
    return 0


def run_check_config(options: argparse.Namespace) -> int:
    """`edgeq check-config`."""
    config = load(existing_file(options.file), {})
    told = cautions(config)
    if options.json:
        print_json({"file": str(options.file), "valid": True, "cautions": list(told)})
    else:
        for caution in told:
            print(f"caution: {printable(caution)}", file=sys.stderr)
        print(f"{options.file} is valid; models come from {config.models_dir}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """`edgeq doctor`."""
    if options.systemd:
        text = drop_in(gpu_devices())
        if options.json:
            print_json({"drop_in": text})
        else:
            print(text)
        return 0
    report = examine()
    if options.json:
        print_json(report)
    else:
        _print_report(report)
    is_usable = any(backend["usable"] for backend in report["backends"])
    return 0 if is_usable and report["sandbox"]["is_usable"] else 1


def examine() -> dict[str, Any]:
    """Return what this box is and which backends it can use."""
    try:
        version = runtime_version()
        runtime, note = str(version), FALLBACK_COST if version.is_fallback else ""
    except EdgeqError as error:
        runtime, note = "none", error.message
    backends: list[dict[str, Any]] = [
        {"name": b.name, "usable": not (reason := b.why_not()), "reason": reason} for b in BACKENDS
    ]
    for backend in backends:
        if backend["name"] == CUDA.name:
            backend["checks"] = [asdict(finding) for finding in presence.examine()]
    return {
        "edgeq": edgeq.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "model": _board(),
        "platform": str(read_platform()),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "runtime": runtime,
        "runtime_note": note,
        "sensors": _sensors(),
        "devices": gpu_devices(),
        "nvidia_smi": shutil.which("nvidia-smi") is not None,
        "backends": backends,
        "sandbox": _sandbox(),
    }


def _sandbox() -> dict[str, Any]:
    """How this box confines the child that first opens a drop: it was just tried."""
    try:
        measures = child.check_sandbox()
    except EdgeqError as error:
        return {"is_usable": False, "is_complete": False, "reason": error.message, "checks": []}
    reasons = sandbox.lacks(measures)
    checks = [
        {
            "check": str(measure),
            "is_well": measure.is_in_force,
            "message": measure.meaning,
            "hint": "" if measure.is_in_force else sandbox.hint(measures),
        }
        for measure in measures
    ]
    return {
        "is_usable": True,
        "is_complete": not reasons,
        "reason": "; ".join(reasons),
        "checks": checks,
    }


def _board(root: Path = Path("/")) -> str:
    """The board's name as the device tree gives it; '' on a machine without one."""
    path = root / "proc/device-tree/model"
    try:
        return path.read_bytes().rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""


def _sensors(root: Path = Path("/")) -> list[str]:
    """What the board measures of itself, as `edgeq_device_*` shows it; a hung sensor is named."""
    asked = sources(root, root)
    watch = BoardWatch({name: asked[name] for name in ("temperature", "gpu", "power")})
    readings, answered = watch.read()
    hung = [f"{name} hangs" for name, is_up in answered.items() if not is_up]
    return [f"{each.place} {SENSOR_FORMATS[each.quantity](each.value)}" for each in readings] + hung


def _print_report(report: dict[str, Any]) -> None:
    rows = [
        (key, _as_text(value))
        for key, value in report.items()
        if key not in ("backends", "sandbox") and value not in ("", [])
    ]
    print_table(("", ""), rows)
    print()
    for backend in report["backends"]:
        state = "usable" if backend["usable"] else f"not usable: {backend['reason']}"
        print(f"backend {backend['name']:5s} {state}")
        for finding in backend.get("checks", ()):
            _print_finding(finding)
    _print_sandbox(report["sandbox"])


def _print_sandbox(found: dict[str, Any]) -> None:
    reason = printable(found["reason"])
    if not found["is_usable"]:
        print(f"sandbox not usable, no drop can be taken: {reason}")
    elif found["is_complete"]:
        print("sandbox in force: a drop is first opened in a child that can do little but compute")
    else:
        print(f"sandbox not complete, a hostile drop could reach the box: {reason}")
    for finding in found["checks"]:
        _print_finding(finding, width=17)


def _print_finding(finding: dict[str, Any], width: int = 10) -> None:
    sign = "ok" if finding["is_well"] else "--"
    print(f"  {sign} {finding['check']:{width}s} {printable(finding['message'])}")
    if finding["hint"]:
        print(f"     {'':{width}s} {finding['hint']}")


def _as_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
