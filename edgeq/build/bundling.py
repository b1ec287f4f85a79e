"""A form that the gate let pass, and what was measured of it -> the bundle on disk."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import edgeq
from edgeq.build.baseline import measure_baseline
from edgeq.build.deploying import Deployed
from edgeq.build.difference import Comparison
from edgeq.build.difference import as_dict as comparison_dict
from edgeq.build.gate import Gated
from edgeq.build.work import Made, Work
from edgeq.bundle import REPORT, Bundle, Golden, Manifest, write_bundle
from edgeq.calibrate.collect import Collection
from edgeq.calibrate.table import histograms_to_npz
from edgeq.engines.base import PLAN_TEXT
from edgeq.engines.origin import box_facts
from edgeq.explain.explain import explain
from edgeq.explain.explanation import Explanation
from edgeq.files import sha256_bytes
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from edgeq.samples.split import SampleSource, only
from edgeq.tflite.runtime import runtime_version

AS_INT8 = "the model arrived as INT8, with scales of its own"


@dataclass(frozen=True)
class Measured:
    """What goes into the bundle beside the form itself."""

    deployed: Deployed
    golden: Golden
    explanation: Explanation
    live: SampleSource | None  # what inputs look like now; None: as the samples
    comparison: Comparison | None = None  # with the engine that serves now


def explained(work: Work, gated: Gated) -> Explanation:
    """Say where the error enters, measured on held-out samples."""
    made = gated.made
    if made.ranges is None:
        return Explanation((), unmeasured=AS_INT8)
    observed = _observed(made)
    histograms = observed.histograms if observed else {}
    threads = work.options.threads
    return explain(made.source, made.int8, made.ranges, histograms, gated.inputs, threads=threads)


def write(work: Work, out: Path, measured: Measured) -> Bundle:
    """Write the bundle; `keep` is given its files too.

    Raises:
        BundleError: `out` is there already, or the disk refuses it.
    """
    made, manifest = measured.deployed.gated.made, _manifest(work, measured.deployed)
    files = {
        "float.tflite": work.content,
        "int8.tflite": made.int8.to_bytes(),
        "verdict.json": _verdict_json(measured),
        "golden.npz": measured.golden.to_npz(),
        "drift.npz": _drift_reference(work, made, measured.live),
        "explain.json": measured.explanation.to_json(),
        "build.json": _record(work, made).to_json(),
        REPORT: _report(work, measured, manifest),
        **_calibration_files(made),
        **measured.deployed.files,
    }
    bundle = write_bundle(out, files, manifest)
    if work.keep is not None:
        for name, content in files.items():
            work.keep(name, content)
    return bundle


def _observed(made: Made) -> Collection | None:
    """Return the histograms of the model that was quantized."""
    return made.equalized or made.collection


def _verdict_json(measured: Measured) -> bytes:
    latency = [asdict(figure) for figure in measured.deployed.latency]
    verdict = measured.deployed.gated.verdict.as_dict()
    compared = comparison_dict(measured.comparison)
    comparison = {"comparison": compared} if compared else {}
    return json.dumps({**verdict, **comparison, "latency": latency}, indent=1).encode()


def _calibration_files(made: Made) -> dict[str, bytes]:
    """The given model's calibration, and the equalized copy's where that was quantized."""
    files = {}
    if made.calibration is not None:
        files["calibration.json"] = made.calibration.to_json()
    if made.collection is not None:
        files["calibration.npz"] = histograms_to_npz(made.collection.histograms)
    if made.ranges is not None and made.equalized is not None:
        files["equalized.json"] = made.ranges.to_json()
        files["equalized.npz"] = histograms_to_npz(made.equalized.histograms)
    return files


def _drift_reference(work: Work, made: Made, live: SampleSource | None) -> bytes:
    """Every one of these samples is a frame that is not drift."""
    source = live or (lambda: only(work.source, work.split.all))
    rows = made.ranges.tensors if made.ranges else {}
    ranges = {name: (row.lo, row.hi) for name, row in rows.items()}
    frames = (sample.inputs for sample in source())
    return measure_baseline(made.int8, frames, ranges, work.options.threads).to_npz()


def _record(work: Work, made: Made) -> BuildRecord:
    """What was tried on the way here, and how long each stage took but for this last one."""
    return BuildRecord(
        stages=dict(work.stages.seconds),
        candidates=made.candidates,
        refinements=made.refinements,
        warnings=tuple(w.message for w in made.collection.warnings) if made.collection else (),
        dropped=len(work.split.unusable) + len(made.dropped),
    )


def _report(work: Work, measured: Measured, manifest: Manifest) -> bytes:
    made = measured.deployed.gated.made
    observed = _observed(made)
    parts = ReportParts(
        manifest=manifest,
        verdict=measured.deployed.gated.verdict.as_dict(),
        explanation=measured.explanation,
        histograms=observed.histograms if observed else {},
        latency=[asdict(figure) for figure in measured.deployed.latency],
        record=_record(work, made),
        bytes_float=len(work.content),
        bytes_int8=len(made.int8.to_bytes()),
        plan=measured.deployed.files.get(PLAN_TEXT, b"").decode(),
    )
    return report_html(parts).encode()


def _manifest(work: Work, deployed: Deployed) -> Manifest:
    made = deployed.gated.made
    return Manifest(
        name=work.options.name,
        engine=deployed.kind,
        backend=deployed.backend,
        method=made.method,
        model_sha256=sha256_bytes(work.content),
        samples=made.ranges.samples if made.ranges else 0,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        created=time.time(),
        float_ops=tuple(asdict(op) for op in made.float_ops),
        refined=made.refined,
        details=deployed.details,
        device=box_facts(),
    )
