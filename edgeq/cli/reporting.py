"""report: a bundle -> one HTML page for people."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from edgeq import files
from edgeq.bundle import BUILD_AGAIN, Bundle, Golden
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable, histograms_from_npz
from edgeq.cli.arguments import Subparsers, add_command, add_json
from edgeq.cli.output import print_json
from edgeq.engines.base import PLAN_TEXT
from edgeq.errors import BundleError, EngineError, InvalidRequestError, QuantizeError
from edgeq.explain.by_method import Inputs, sqnr_by_method
from edgeq.explain.explanation import Explanation
from edgeq.explain.tensors import explain_tensors
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from edgeq.tflite.model import Model

BEFORE = (
    "this bundle has no explain.json, for it was built before edgeq explained its layers; "
    "build it again to see them"
)
ELSEWHERE = "this bundle has no calibration.json, for its model was not calibrated here"


def register(commands: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        commands, "report", run_report,
        help="a bundle -> one page: verdict, latency, methods, costliest layers, every tensor",
        example="edgeq report face.bundle --out face.html",
    )  # fmt: skip
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.html")
    add_json(parser)


def run_report(options: argparse.Namespace) -> int:
    """`edgeq report`."""
    content = report_html(_parts(Bundle.open(options.bundle))).encode()
    files.write_atomic(options.out, content)
    if options.json:
        print_json({"report": str(options.out), "bytes": len(content)})
    else:
        print(f"{options.out}: {len(content)} bytes")
    return 0


def _parts(bundle: Bundle) -> ReportParts:
    verdict = _verdict(bundle)
    histograms: dict[str, Histogram] = {}
    for name in ("equalized.npz", "calibration.npz"):  # of the model that was quantized
        if bundle.has(name) and not histograms:
            histograms = histograms_from_npz(bundle.read(name))
    record, golden = _record(bundle), _golden(bundle)
    return ReportParts(
        manifest=bundle.manifest,
        verdict=verdict,
        explanation=_explanation(bundle, histograms),
        histograms=histograms,
        by_method={} if record.candidates else _by_method(bundle, golden),
        golden=len(golden),
        latency=[row for row in verdict.get("latency") or () if isinstance(row, dict)],
        record=record,
        bytes_float=_size(bundle, "float.tflite"),
        bytes_int8=_size(bundle, "int8.tflite"),
        plan=(bundle.read_if_there(PLAN_TEXT) or b"").decode(errors="replace"),
    )


def _record(bundle: Bundle) -> BuildRecord:
    """Return how the build went; an older bundle does not say."""
    content = bundle.read_if_there("build.json")
    return BuildRecord() if content is None else BuildRecord.from_json(content)


def _golden(bundle: Bundle) -> tuple[Inputs, ...]:
    content = bundle.read_if_there("golden.npz")
    return Golden.from_npz(content).inputs if content else ()


def _by_method(bundle: Bundle, inputs: tuple[Inputs, ...]) -> dict[str, float]:
    """Measure what a build that was told its method did not; nothing where that cannot be."""
    if not (bundle.has("calibration.npz") and inputs):
        return {}
    histograms = histograms_from_npz(bundle.read("calibration.npz"))
    model = Model.from_bytes(bundle.read("float.tflite"))
    with contextlib.suppress(EngineError, QuantizeError, InvalidRequestError):
        return sqnr_by_method(model, histograms, inputs)
    return {}


def _size(bundle: Bundle, name: str) -> int:
    entry = bundle.manifest.files.get(name)
    return entry.bytes if entry else 0


def _verdict(bundle: Bundle) -> dict[str, Any]:
    if not bundle.has("verdict.json"):  # the float model, served until there is an INT8 one
        return {}
    try:
        verdict = json.loads(bundle.read("verdict.json"))
    except ValueError as error:
        raise BundleError(f"verdict.json is damaged: {error}", hint=BUILD_AGAIN) from error
    if not isinstance(verdict, dict):
        raise BundleError("verdict.json is damaged: it is no object", hint=BUILD_AGAIN)
    return verdict


def _explanation(bundle: Bundle, histograms: dict[str, Histogram]) -> Explanation:
    """Return what the build explained; of an older bundle, what its calibration tells."""
    if bundle.has("explain.json"):
        return Explanation.from_json(bundle.read("explain.json"))
    if not bundle.has("calibration.json"):
        return Explanation((), unmeasured=ELSEWHERE)
    model, int8 = (Model.from_bytes(bundle.read(f"{n}.tflite")) for n in ("float", "int8"))
    table = CalibrationTable.from_json(bundle.read("calibration.json"))
    return Explanation(explain_tensors(model, int8, table, histograms), unmeasured=BEFORE)
