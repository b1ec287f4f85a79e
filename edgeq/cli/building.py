"""build, calibrate, merge, export: a model and samples -> a bundle, a table, another format."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edgeq import files
from edgeq.build import BuildOptions, BuildResult, build, calibration_table
from edgeq.bundle import Bundle
from edgeq.calibrate.collect import collect
from edgeq.calibrate.methods import METHODS
from edgeq.calibrate.table import (
    CalibrationTable,
    histograms_from_npz,
    histograms_to_npz,
    merge_histograms,
    tensorrt_cache,
)
from edgeq.cli.arguments import (
    Subparsers,
    add_command,
    add_config,
    add_json,
    existing_file,
    load_config,
)
from edgeq.cli.output import BarProgress, make_progress, print_json, print_table
from edgeq.config import Sidecar, read_sidecar
from edgeq.engines.table import load_float
from edgeq.errors import SampleError, UsageError
from edgeq.samples.decode import Preprocessing, load_folder
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.verify import VerifyOptions

METHOD_CHOICES = ("auto", *METHODS)
PR_SET_PDEATHSIG = 1  # prctl(2)


def register(commands: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        commands, "build", run_build,
        help="float .tflite and samples -> a verified INT8 bundle",
        example="edgeq build face.tflite --samples captures/ --out face.bundle",
    )  # fmt: skip
    _add_model_and_samples(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="bundle (default: NAME.bundle)")
    parser.add_argument("--backend", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy the bundle's files there")
    parser.add_argument("--progress", choices=("bar", "json", "none"), help="how to show progress")
    parser.add_argument("--name", help="the model's name (default: the file's)")
    parser.add_argument("--threads", type=_count, default=None, help="CPU threads")
    parser.add_argument("--held-out-ratio", type=float, help="share of samples for the gate")
    parser.add_argument("--task", choices=("auto", "classification", "regression"))
    parser.add_argument("--agreement", type=float, help="gate: least top-1 agreement")
    parser.add_argument("--cosine", type=float, help="gate: least cosine")
    parser.add_argument("--sqnr-db", type=float, help="gate: least SQNR in dB")
    parser.add_argument("--golden", type=_count, help="golden inputs in the bundle")
    parser.add_argument(
        "--live-samples", type=Path, metavar="DIR",
        help="what inputs look like now: drift is measured against these (default: --samples)",
    )  # fmt: skip
    parser.add_argument("--exit-with-parent", action="store_true", help=argparse.SUPPRESS)
    add_config(parser)

    parser = add_command(
        commands, "calibrate", run_calibrate,
        help="float .tflite and samples -> a calibration table",
        example="edgeq calibrate face.tflite --samples captures/ --out face.json",
    )  # fmt: skip
    _add_model_and_samples(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.json")
    parser.add_argument("--progress", choices=("bar", "json", "none"))

    parser = add_command(
        commands, "merge", run_merge,
        help="several boxes' tables (and the .npz beside each) -> one",
        example="edgeq merge box1.json box2.json --out fleet.json",
    )  # fmt: skip
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE")
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.json")
    add_json(parser)

    parser = add_command(
        commands, "export", run_export,
        help="a bundle or table -> TensorRT's calibration cache, JSON, or the INT8 .tflite",
        example="edgeq export face.bundle --format tensorrt-cache --out face.cache",
    )  # fmt: skip
    parser.add_argument("source", type=Path, metavar="BUNDLE|TABLE")
    parser.add_argument("--format", required=True, choices=("tensorrt-cache", "json", "tflite"))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    add_json(parser)


def _add_model_and_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .tflite")
    parser.add_argument(
        "--samples", type=Path, required=True, metavar="DIR", help=".npy, .npz, .png, .jpg"
    )
    parser.add_argument("--method", choices=METHOD_CHOICES, help="how ranges are chosen")
    add_json(parser)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("a count is 1 or more")
    return value


# ---- build


def run_build(options: argparse.Namespace) -> int:
    """`edgeq build`."""
    if options.exit_with_parent:
        _die_with_parent()
    content = existing_file(options.model).read_bytes()
    sidecar = _sidecar_of(options.model)
    chosen = _build_options(options, sidecar)
    out = options.out or Path(f"{chosen.name}.bundle")
    skipped: list[SampleError] = []
    source = _source(content, options.samples, sidecar, skipped)
    live = None
    if options.live_samples:
        live = _source(content, options.live_samples, sidecar, skipped)
    progress = make_progress(options.progress)
    try:
        result = build(content, source, out, chosen, progress, live)
    finally:
        if isinstance(progress, BarProgress):
            progress.finish()
    _warn_skipped(skipped)
    if options.keep:
        _keep(result.bundle, options.keep)
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
        backend=options.backend,
        method=options.method or sidecar.method or config.build.method,
        threads=options.threads or config.build.threads,
        held_out_ratio=options.held_out_ratio or config.samples.held_out_ratio,
        golden=gate.pop("golden"),
        verify=VerifyOptions(**gate, task=options.task or sidecar.task),
    )


def _source(
    content: bytes, directory: Path, sidecar: Sidecar, skipped: list[SampleError]
) -> Callable[[], Iterator[Sample]]:
    if not directory.is_dir():
        raise UsageError(f"--samples {directory} is not a folder", hint="Give a folder of samples.")
    engine = load_float(content)
    inputs = engine.inputs
    engine.close()
    preprocessing: Preprocessing = sidecar.preprocessing.options

    def samples() -> Iterator[Sample]:
        skipped.clear()
        return load_folder(directory, inputs, preprocessing, on_bad=skipped.append)

    return samples


def _sidecar_of(model: Path) -> Sidecar:
    path = model.with_suffix(".yaml")
    return read_sidecar(path) if path.is_file() else Sidecar()


def _warn_skipped(skipped: list[SampleError]) -> None:
    for error in skipped[:5]:
        print(f"edgeq: sample skipped: {error.message}", file=sys.stderr)
    if len(skipped) > 5:
        print(f"edgeq: and {len(skipped) - 5} more were skipped", file=sys.stderr)


def _keep(bundle: Bundle, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in bundle.manifest.files:
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(target, bundle.read(name))


def _print_build(result: BuildResult) -> None:
    verdict = result.verdict
    print(f"bundle    {result.bundle.directory}")
    print(f"engine    {result.bundle.manifest.engine}, ranges by {result.method}")
    print(f"samples   {result.samples} used, {len(result.dropped)} dropped")
    for dropped in result.dropped[:5]:
        print(f"          {dropped['id'][:12]}: {dropped['reason']}")
    print(f"float ops {len(result.float_ops)}")
    for op in result.float_ops[:5]:
        print(f"          {op.index} {op.name}: {op.reason}")
    agreement = "" if verdict.agreement is None else f"agreement {verdict.agreement:.2%}, "
    print(
        f"verdict   passed on {verdict.samples} held-out samples: {agreement}"
        f"SQNR {verdict.sqnr_db:.1f} dB, cosine {verdict.cosine:.4f}"
    )
    latency = ", ".join(f"{figure.engine} {figure.p50_ms:.2f} ms" for figure in result.latency)
    print(f"latency   {latency} (p50)")
    print(f"time      {sum(result.stages.values()):.1f} s")


def _die_with_parent() -> None:
    """Ask the kernel to end this process with the one that started it (Linux)."""
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:  # it ended before we asked
        sys.exit(1)


# ---- calibrate, merge, export


def run_calibrate(options: argparse.Namespace) -> int:
    """`edgeq calibrate`."""
    content = existing_file(options.model).read_bytes()
    model = Model.from_bytes(content)
    skipped: list[SampleError] = []
    source = _source(content, options.samples, _sidecar_of(options.model), skipped)
    progress = make_progress(options.progress)
    collection = collect(model, source(), progress=lambda n: progress("calibrate", n, 0))
    if isinstance(progress, BarProgress):
        progress.finish()
    _warn_skipped(skipped)
    method = "entropy" if options.method in (None, "auto") else options.method
    table = calibration_table(model, content, collection, method)
    _write_table(options.out, table, histograms_to_npz(collection.histograms))
    _show_table(options, table)
    return 0


def _write_table(path: Path, table: CalibrationTable, histograms: bytes) -> None:
    files.write_atomic(path.with_suffix(".npz"), histograms)
    files.write_atomic(path, table.to_json())


def _show_table(options: argparse.Namespace, table: CalibrationTable) -> None:
    if options.json:
        print_json({"table": str(options.out), "tensors": len(table.tensors),
                    "samples": table.samples, "method": table.method})  # fmt: skip
        return
    rows = [
        (f"{r.lo:.5g}", f"{r.hi:.5g}", f"{r.min:.5g}", f"{r.max:.5g}", f"{r.clipped_ratio:.4%}",
         r.method, name)
        for name, r in table.tensors.items()
    ]  # fmt: skip
    print_table(("lo", "hi", "min", "max", "clipped", "method", "tensor"), rows)


def run_merge(options: argparse.Namespace) -> int:
    """`edgeq merge`."""
    tables = [CalibrationTable.from_json(existing_file(p).read_bytes()) for p in options.tables]
    first = tables[0]
    for path, table in zip(options.tables, tables, strict=True):
        if table.model_sha256 != first.model_sha256:
            raise UsageError(
                f"{path} is of model {table.model_sha256[:12]}; "
                f"{options.tables[0]} is of {first.model_sha256[:12]}",
                hint="Merge tables of one model.",
            )
    parts = [
        histograms_from_npz(existing_file(p.with_suffix(".npz")).read_bytes())
        for p in options.tables
    ]
    histograms = merge_histograms(parts)
    samples = sum(table.samples for table in tables)
    merged = CalibrationTable.from_histograms(first.model_sha256, first.method, samples, histograms)
    _write_table(options.out, merged, histograms_to_npz(histograms))
    _show_table(options, merged)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """`edgeq export`."""
    content = _exported(options.source, options.format)
    files.write_atomic(options.out, content)
    if options.json:
        print_json({"file": str(options.out), "format": options.format, "bytes": len(content)})
    return 0


def _exported(source: Path, kind: str) -> bytes:
    if source.is_dir():
        bundle = Bundle.open(source)
        if kind == "tflite":
            return bundle.read("int8.tflite")
        table = bundle.read("calibration.json")
    elif kind == "tflite":
        raise UsageError(
            f"{source} is a table; the INT8 model is in a bundle", hint="Name the bundle."
        )
    else:
        table = existing_file(source).read_bytes()
    if kind == "json":
        return table
    return tensorrt_cache(CalibrationTable.from_json(table)).encode()
