"""Parts of a report for tests, and what a reader sees of the page made of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.bundle import Manifest
from edgeq.calibrate.collect import collect
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable
from edgeq.explain.explanation import Explanation
from edgeq.explain.tensors import explain_tensors
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained
from tests.observe.markup import Page

VERDICT: dict[str, Any] = {
    "passed": True,
    "samples": 16,
    "reasons": [],
    "outputs": [
        {"name": "scores", "agreement": 0.975, "accepted": 1.0, "cosine": 0.9991, "sqnr_db": 31.25}
    ],
    "thresholds": {"agreement": 0.95, "cosine": 0.98, "sqnr_db": 10.0, "task": "auto"},
}
LATENCY = [
    {"engine": "float", "p50_ms": 1.5, "p90_ms": 1.75, "p99_ms": 2.0, "runs": 9},
    {"engine": "cpu-int8", "p50_ms": 0.5, "p90_ms": 0.625, "p99_ms": 0.75, "runs": 9},
]
RECORD = BuildRecord(
    stages={"read": 0.25, "calibrate": 1.5, "select": 0.75},
    candidates={"entropy": 30.0, "max": 27.5},
    refinements={"none": 29.0},
    warnings=("every frame is dark",),
    dropped=2,
)


def a_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "face", "engine": "cpu-int8", "backend": "cpu", "method": "entropy",
        "model_sha256": "ab" * 32, "samples": 48, "runtime": "ai-edge-litert 2.1",
        "edgeq": "0.1.0", "created": 0.0, "refined": ("bias_correction",),
        "float_ops": ({"index": 3, "name": "CUSTOM:x", "reason": "it has no INT8 kernel"},),
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def some_parts() -> ReportParts:
    """A bundle of a small model, measured."""
    model, samples = tiny.tiny_model(), drawn(8, image=(1, 8, 8, 3))
    return ReportParts(
        manifest=a_manifest(),
        verdict=VERDICT,
        explanation=explained(model, samples, method="entropy"),
        histograms=collect(model, samples).histograms,
        latency=LATENCY,
        record=RECORD,
        bytes_float=4000,
        bytes_int8=1000,
    )


def page_of(parts: ReportParts) -> Page:
    return Page(report_html(parts))


def text_of(parts: ReportParts) -> str:
    return re.sub(r"\s+", " ", page_of(parts).text)


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    return histogram


def heavy_tailed(parts: ReportParts, method: str) -> ReportParts:
    """A bundle of one tensor with a few far values, its range by this method."""
    draw = np.random.default_rng(0)
    histogram = histogram_of(*draw.normal(size=20_000), 60.0)
    table = CalibrationTable.from_histograms("", method, 1, {"x": histogram})
    model = tiny.tiny_model()
    tensors = explain_tensors(model, model, table, {"x": histogram})
    return replace(parts, explanation=Explanation(tensors), histograms={"x": histogram},
                   manifest=a_manifest(method=method))  # fmt: skip
