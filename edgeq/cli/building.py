"""build: a float model and samples -> a verified bundle."""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import signal
import sys
from pathlib import Path

from edgeq import files
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.build.work import Keep
from edgeq.calibrate.reuse import Calibration, read_calibration
from edgeq.cli.arguments import (
    Subparsers,
    add_command,
    add_config,
    count,
    existing_file,
    finite,
    load_config,
    number,
    read_model,
)
from edgeq.cli.inputs import SampleFolder, add_model_and_samples, sidecar_of
from edgeq.cli.output import print_json, printable, shown_progress
from edgeq.config import Sidecar
from edgeq.engines.cuda.targets import Target
from edgeq.engines.table import BACKENDS
from edgeq.errors import EngineError
from edgeq.observe.report import engine_lines
from edgeq.tflite.model import Model
from edgeq.verify import VerifyOptions

BACKEND_CHOICES = ("auto", *(backend.name for backend in BACKENDS))
DROPPED_SHOWN = 5
WORST_SHOWN = 3
PR_SET_PDEATHSIG = 1  # prctl(2)


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands, "build", run_build,
        help="float .tflite and samples -> a verified INT8 bundle",
        example="edgeq build face.tflite --samples captures/ --out face.bundle",
    )  # fmt: skip
    add_model_and_samples(parser)
    share = number(0, 1)
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle (default: NAME.bundle)")
    parser.add_argument("--backend", choices=BACKEND_CHOICES, help="engine to build")
    parser.add_argument(
        "--target", type=_target, metavar="SM",
        help="build the GPU's kernels for another box, e.g. sm_87 for Orin; needs no GPU",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="DIR",
        help="keep every file of the build there, also of one that the gate refuses",
    )  # fmt: skip
    parser.add_argument("--name", help="the model's name (default: the file's)")
    parser.add_argument(
        "--no-refine", action="store_false", dest="refine", default=None,
        help="no equalization, adaptive rounding or bias correction",
    )  # fmt: skip
    parser.add_argument(
        "--no-tune", action="store_false", dest="tune", default=None,
        help="let the cost model choose the GPU's kernels instead of timing them",
    )  # fmt: skip
    parser.add_argument("--held-out-ratio", type=_part, help="share of samples for the gate")
    parser.add_argument("--task", choices=("auto", "classification", "regression"))
    parser.add_argument("--agreement", type=share, help="gate: least top-1 agreement")
    parser.add_argument("--cosine", type=number(-1, 1), help="gate: least cosine")
    parser.add_argument("--sqnr-db", type=finite, help="gate: least SQNR in dB")
    parser.add_argument(
        "--mixed", action=argparse.BooleanOptionalAction,
        help="where the gate refuses INT8, keep the ops that cost most float (default: do)",
    )  # fmt: skip
    parser.add_argument("--golden", type=count, help="golden inputs in the bundle")
    parser.add_argument(
        "--live-samples", type=Path, metavar="DIR",
        help="those of --samples that show what inputs look like now: the gate judges them by "
        "themselves, and drift is measured against them (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--present", type=Path, metavar="INT8.tflite",
        help="the INT8 model that serves now: one that is no better on --live-samples is refused",
    )  # fmt: skip
    parser.add_argument(
        "--table", type=Path, metavar="TABLE.json",
        help="a calibration of this model (with its .npz beside it), or TensorRT's cache: "
        "the samples then choose and judge only",
    )  # fmt: skip
    parser.add_argument("--exit-with-parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    add_config(parser)


def _part(text: str) -> float:
    """Read a share that leaves something on both sides."""
    value = number(0, 1)(text)
    if value in (0, 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def _target(text: str) -> str:
    """Read a GPU architecture."""
    try:
        return Target.parse(text).name
    except EngineError as error:
        raise argparse.ArgumentTypeError(f"{error.message}. {error.hint}") from error


def run_build(options: argparse.Namespace) -> int:
    """`edgeq build`."""
    if options.exit_with_parent:
        _die_with_parent(options.exit_with_parent)
    sidecar = sidecar_of(options.model)
    chosen = _build_options(options, sidecar)
    content = read_model(options.model)
    out = options.out or Path(f"{chosen.name}.bundle")
    source = SampleFolder(content, options.samples, sidecar)
    live = SampleFolder(content, options.live_samples, sidecar) if options.live_samples else None
    keep = _keep_in(options.keep) if options.keep else None
    table = _calibration(options.table, content) if options.table else None
    present = read_model(options.present) if options.present else None
    try:
        with shown_progress(options.progress) as progress:
            result = build(content, source, out, chosen, progress, live, keep, table, present)
    finally:
        source.warn_skipped()
    if options.json:
        print_json(result.as_dict())
    else:
        _print_build(result)
    return 0


def _build_options(options: argparse.Namespace, sidecar: Sidecar) -> BuildOptions:
    """Command line before sidecar before configuration before defaults."""
    config = load_config(options)
    gate = {**config.verify.model_dump(), **sidecar.gate.model_dump(exclude_none=True)}
    given = {k: getattr(options, k) for k in ("agreement", "cosine", "sqnr_db", "golden")}
    gate.update({key: value for key, value in given.items() if value is not None})
    return BuildOptions(
        name=options.name or options.model.stem,
        backend=options.backend or config.build.backend,
        target=options.target or "",
        method=options.method or sidecar.method or config.build.method,
        threads=options.threads or config.build.threads,
        held_out_ratio=options.held_out_ratio or config.samples.held_out_ratio,
        golden=gate.pop("golden"),
        refine=config.build.refine if options.refine is None else options.refine,
        tune=config.build.tune if options.tune is None else options.tune,
        mixed_precision=config.build.mixed_precision if options.mixed is None else options.mixed,
        verify=VerifyOptions(**gate, task=options.task or sidecar.task),
    )


def _calibration(path: Path, content: bytes) -> Calibration:
    beside = path.with_suffix(".npz")
    histograms = beside.read_bytes() if beside != path and beside.is_file() else None
    names = Model.from_bytes(content).names()
    table = existing_file(path).read_bytes()
    return read_calibration(table, histograms, files.sha256_bytes(content), names)


def _keep_in(directory: Path) -> Keep:
    def keep(name: str, content: bytes) -> None:
        files.make_directory(directory)
        files.write_atomic(directory / name, content)

    return keep


def _print_build(result: BuildResult) -> None:
    verdict = result.verdict
    print(f"bundle    {result.bundle.directory}")
    print(f"engine    {result.bundle.manifest.engine}, ranges by {result.method}")
    for line in engine_lines(result.details):
        print(f"          {printable(line)}")
    if result.refined:
        print(f"refined   {', '.join(result.refined)}: {result.refined_db:+.1f} dB")
    print(f"samples   {result.samples} used, {len(result.dropped)} dropped")
    for dropped in result.dropped[:DROPPED_SHOWN]:
        print(f"          {dropped.id[:12]}: {printable(dropped.reason)}")
    for warning in result.warnings:
        print(f"warning   {printable(warning.message)}; {printable(warning.hint)}")
    print(f"float ops {len(result.float_ops)}")
    for op in result.float_ops[:DROPPED_SHOWN]:
        print(f"          {op.index} {op.name}: {op.reason}")
    if len(result.float_ops) > DROPPED_SHOWN:
        print(f"          and {len(result.float_ops) - DROPPED_SHOWN} more: see the manifest")
    agreement = "" if verdict.agreement is None else f"agreement {verdict.agreement:.2%}, "
    print(
        f"verdict   passed on {verdict.samples} held-out samples: {agreement}"
        f"SQNR {verdict.sqnr_db:.1f} dB, cosine {verdict.cosine:.4f}"
    )
    for advice in result.explanation.worst[:WORST_SHOWN]:
        print(f"costs     {printable(advice.text)}")
    latency = ", ".join(f"{figure.engine} {figure.p50_ms:.2f} ms" for figure in result.latency)
    print(f"latency   {latency} (p50){_slower(result)}")
    print(f"time      {sum(result.stages.values()):.1f} s")


def _slower(result: BuildResult) -> str:
    """Say so where INT8 does not pay: its fidelity costs something, and here buys nothing."""
    if "proven_by" in result.details:  # what is timed is not what the bundle is for
        return ", on this box"
    p50_ms = {figure.engine: figure.p50_ms for figure in result.latency}
    is_slower = p50_ms[result.bundle.manifest.engine] > p50_ms.get("float", math.inf)
    return ": INT8 is slower than float on this box" if is_slower else ""


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with `parent`, which started it (Linux)."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended while we were being loaded
        sys.exit(1)
