"""calibrate, merge, export: samples -> a calibration table, several -> one -> other formats."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgeq import files
from edgeq.build.work import calibration_table
from edgeq.bundle import Bundle
from edgeq.calibrate.collect import collect
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import (
    CalibrationTable,
    histograms_from_npz,
    histograms_to_npz,
    merge_histograms,
    tensorrt_cache,
)
from edgeq.cli.arguments import Subparsers, add_command, add_json, existing_file, read_model
from edgeq.cli.inputs import SampleFolder, add_model_and_samples, sidecar_of
from edgeq.cli.output import print_json, print_table, shown_progress
from edgeq.errors import CalibrationError, UsageError
from edgeq.quantize.convert import is_quantized
from edgeq.tflite.model import Model

DROPPED_SHOWN = 5


def register(commands: Subparsers) -> None:
    """Add the commands."""
    _register_calibrate(commands)
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


def _register_calibrate(commands: Subparsers) -> None:
    parser = add_command(
        commands, "calibrate", run_calibrate,
        help="float .tflite and samples -> a calibration table, and its histograms as .npz",
        example="edgeq calibrate face.tflite --samples captures/ --out face.json",
    )  # fmt: skip
    add_model_and_samples(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.json")


def run_calibrate(options: argparse.Namespace) -> int:
    """`edgeq calibrate`."""
    _check_table_name(options.out)
    sidecar = sidecar_of(options.model)
    content = read_model(options.model)
    model = Model.from_bytes(content)
    if is_quantized(model):
        raise CalibrationError(
            f"{options.model} is INT8 already, with scales of its own; a float model is needed",
            hint="Name the float model it was made from.",
        )
    source = SampleFolder(content, options.samples, sidecar)
    try:
        with shown_progress(options.progress) as progress:
            collection = collect(
                model,
                source(),
                threads=options.threads or 1,
                progress=lambda done: progress("calibrate", done, 0),
            )
    finally:
        source.warn_skipped()
    for dropped in collection.dropped[:DROPPED_SHOWN]:
        print(f"edgeq: sample dropped: {dropped.id[:12]}: {dropped.reason}", file=sys.stderr)
    for warning in collection.warnings:
        print(f"edgeq: warning: {warning.message}; {warning.hint}", file=sys.stderr)
    chosen = options.method or sidecar.method or "auto"
    method = "entropy" if chosen == "auto" else chosen
    table = calibration_table(content, collection, method)
    _write_table(options.out, table, histograms_to_npz(collection.histograms))
    _show_table(options, table)
    return 0


def _check_table_name(path: Path) -> None:
    if path.suffix == ".npz":
        raise UsageError(
            f"--out is {path}; the histograms go beside the table, as .npz",
            hint="Name the table .json.",
        )


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
    _check_table_name(options.out)
    tables = [CalibrationTable.from_json(existing_file(p).read_bytes()) for p in options.tables]
    first = tables[0]
    for path, table in zip(options.tables, tables, strict=True):
        _check_same("model", path, table.model_sha256, options.tables[0], first.model_sha256)
        _check_same("method", path, table.method, options.tables[0], first.method)
    parts = [_histograms(path, table) for path, table in zip(options.tables, tables, strict=True)]
    histograms = merge_histograms(parts)
    samples = sum(table.samples for table in tables)
    merged = CalibrationTable.from_histograms(first.model_sha256, first.method, samples, histograms)
    _write_table(options.out, merged, histograms_to_npz(histograms))
    _show_table(options, merged)
    return 0


def _check_same(what: str, path: Path, found: str, first: Path, expected: str) -> None:
    if found != expected:
        raise UsageError(
            f"{path} is of {what} {found[:12]}; {first} is of {expected[:12]}",
            hint="Merge tables of one model, made by one method.",
        )


def _histograms(path: Path, table: CalibrationTable) -> dict[str, Histogram]:
    beside = existing_file(path.with_suffix(".npz"))
    histograms = histograms_from_npz(beside.read_bytes())
    if set(histograms) != set(table.tensors):
        raise UsageError(
            f"{beside} holds {len(histograms)} tensors, not the {len(table.tensors)} of {path}",
            hint="Copy both files of one calibration together.",
        )
    return histograms


def run_export(options: argparse.Namespace) -> int:
    """`edgeq export`."""
    content = _exported(options.source, options.format)
    files.write_atomic(options.out, content)
    if options.json:
        print_json({"file": str(options.out), "format": options.format, "bytes": len(content)})
    else:
        print(f"{options.out}: {len(content)} bytes")
    return 0


def _exported(source: Path, kind: str) -> bytes:
    if source.is_dir():
        bundle = Bundle.open(source)
        if kind == "tflite":
            return _part_of(bundle, "int8.tflite")
        table = _part_of(bundle, "calibration.json")
    elif kind == "tflite":
        existing_file(source)
        raise UsageError(
            f"{source} is a table; the INT8 model is in a bundle", hint="Name the bundle."
        )
    else:
        table = existing_file(source).read_bytes()
    parsed = CalibrationTable.from_json(table)
    return parsed.to_json() if kind == "json" else tensorrt_cache(parsed).encode()


def _part_of(bundle: Bundle, name: str) -> bytes:
    if not bundle.has(name):
        raise UsageError(
            f"{bundle.directory} has no {name}: its model was not calibrated here "
            f"({bundle.manifest.engine}, {bundle.manifest.method})",
            hint="Name a bundle that `edgeq build` made from a float model.",
        )
    return bundle.read(name)
