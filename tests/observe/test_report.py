"""A build's report."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from edgeq.bundle import Manifest
from edgeq.calibrate.collect import collect
from edgeq.explain.explanation import Explanation
from edgeq.observe.report import ReportParts, report_html
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained
from tests.observe.test_page import HOSTILE, Page

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


def a_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "face", "engine": "cpu-int8", "backend": "cpu", "method": "entropy",
        "model_sha256": "ab" * 32, "samples": 48, "runtime": "ai-edge-litert 2.1",
        "edgeq": "0.1.0", "created": 0.0, "refined": ("bias_correction",),
        "float_ops": ({"index": 3, "name": "CUSTOM:x", "reason": "it has no INT8 kernel"},),
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


@pytest.fixture(scope="module")
def parts() -> ReportParts:
    model, samples = tiny.tiny_model(), drawn(8, image=(1, 8, 8, 3))
    return ReportParts(
        manifest=a_manifest(),
        verdict=VERDICT,
        explanation=explained(model, samples, method="entropy"),
        histograms=collect(model, samples).histograms,
        latency=LATENCY,
    )


def page_of(parts: ReportParts) -> Page:
    return Page(report_html(parts))


def text_of(parts: ReportParts) -> str:
    return re.sub(r"\s+", " ", page_of(parts).text)


def test_it_says_what_was_built_how_it_did_and_how_fast_it_is(parts):
    text = text_of(parts)
    for word in ("cpu-int8, ranges by entropy", "bias_correction", "CUSTOM:x: it has no INT8",
                 "passed on 16 held-out samples", "97.50%", "0.9991", "31.2",
                 "1.500", "0.625", "SHA-256 abab"):  # fmt: skip
        assert word in text


def test_every_layer_has_a_bar_and_its_figures(parts):
    page = page_of(parts)
    bars = [dict(attrs) for tag, attrs in page.tags if attrs.get("class") == "bar"]
    assert len(bars) == len(parts.explanation.layers)
    widths = [float(re.search(r"([\d.]+)%", bar["style"])[1]) for bar in bars]
    expected = [min(max(e.sqnr_db, 0), 60) / 0.6 for e in parts.explanation.layers]
    assert widths == pytest.approx(expected, abs=0.06)
    for layer in parts.explanation.layers:
        assert f"{layer.sqnr_db:.1f}" in page.text


def test_the_worst_layers_are_in_words(parts):
    text = text_of(parts)
    assert len(parts.explanation.worst) == 5
    assert all(advice.text in text for advice in parts.explanation.worst)


def test_every_tensor_has_a_picture_and_a_row_a_method(parts):
    page = page_of(parts)
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert labels == [f"Values of {tensor.name}" for tensor in parts.explanation.tensors]
    for tensor in parts.explanation.tensors:
        for name, method in tensor.methods.items():
            assert name in page.text
            assert f"{method.sqnr_db:.1f}" in page.text


def test_only_the_tensors_of_the_worst_layers_are_open(parts):
    page = page_of(parts)
    opened = sum("open" in attrs for tag, attrs in page.tags if tag == "details")
    assert opened == len({advice.tensor for advice in parts.explanation.worst})


def test_it_needs_nothing_else_and_runs_nothing(parts):
    html = report_html(parts)
    page = Page(html)
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?://|@import|url\(", html)
    assert "default-src 'none'" in html
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert "prefers-color-scheme: dark" in html
    assert "width=device-width" in html


def test_the_same_parts_give_the_same_page(parts):
    assert report_html(parts) == report_html(parts)


def test_what_was_not_measured_is_said(parts):
    bare = Explanation(parts.explanation.tensors, unmeasured="there was no sample")
    text = text_of(replace(parts, explanation=bare, latency=(), histograms={}, verdict={}))
    assert "Not measured: there was no sample." in text
    assert "see edgeq bench" in text
    assert "this bundle was not judged" in text
    assert "Its histogram is not in the bundle." in text
    assert "scales of its own" in text_of(replace(parts, explanation=Explanation(())))
    silent = replace(parts.explanation, worst=())
    assert "None adds any noise." in text_of(replace(parts, explanation=silent))


def test_a_refusal_says_why(parts):
    refused = {**VERDICT, "passed": False, "reasons": ["output 'scores' has cosine 0.5"]}
    text = text_of(replace(parts, verdict=refused))
    assert "refused on 16 held-out samples" in text
    assert "output 'scores' has cosine 0.5" in text


def test_a_tensor_that_stays_float_is_said_to(parts):
    tensors = tuple(replace(t, int8_lo=None, int8_hi=None) for t in parts.explanation.tensors)
    assert "stays float" in text_of(replace(parts, explanation=Explanation(tensors)))


def hostile(explanation: Explanation) -> Explanation:
    def spoiled(rows: Any, **fields: Any) -> Any:
        return tuple(replace(row, **{k: HOSTILE + v for k, v in fields.items()}) for row in rows)

    tensors = tuple(
        replace(t, name=HOSTILE, tags=(HOSTILE,), method=HOSTILE, shares_with=(HOSTILE, "x"),
                methods={HOSTILE + name: m for name, m in t.methods.items()})
        for t in explanation.tensors
    )  # fmt: skip
    return replace(
        explanation,
        tensors=tensors,
        layers=spoiled(explanation.layers, op="o", tensor="t"),
        worst=spoiled(explanation.worst, text="w", tensor="t"),
    )


@pytest.mark.parametrize("measured", [True, False])
def test_nothing_from_outside_is_markup(parts, measured):
    explanation = hostile(parts.explanation)
    if not measured:
        explanation = replace(explanation, layers=(), unmeasured=HOSTILE)
    spoiled = {
        "passed": True, "samples": HOSTILE, "reasons": [HOSTILE],
        "outputs": [{"name": HOSTILE, "agreement": HOSTILE}, HOSTILE],
        "thresholds": {"cosine": HOSTILE},
    }  # fmt: skip
    changed = ReportParts(
        manifest=a_manifest(name=HOSTILE, method=HOSTILE, runtime=HOSTILE, refined=(HOSTILE,),
                            float_ops=({"index": HOSTILE, "name": HOSTILE},)),
        verdict=spoiled,
        explanation=explanation,
        histograms={HOSTILE: next(iter(parts.histograms.values()))},
        latency=[{"engine": HOSTILE, "p50_ms": HOSTILE, "p90_ms": True}],
    )  # fmt: skip
    page = page_of(changed)
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    known = {"class", "style", "title", "lang", "charset", "name", "content", "http-equiv", "open"}
    attributes = {key for tag, attrs in page.tags for key in attrs if tag not in SVG}
    assert attributes <= known


SVG = {"svg", "g", "path", "line", "text"}


def test_a_thousand_tensors_stay_a_page(parts):
    many = parts.explanation.tensors * 143
    html = report_html(replace(parts, explanation=replace(parts.explanation, tensors=many)))
    assert len(html) < 8_000 * len(many)


def test_a_gpu_s_engine_says_what_it_is_for_and_what_stays_on_the_cpu(parts: ReportParts) -> None:
    op = {"index": 4, "name": "GATHER", "reason": "GATHER <b> has no kernel"}
    details = {
        "target": "sm_87", "kernels": 11, "tuned": False, "tuning": "built for another box",
        "proven_by": "cpu-int8", "cpu_ops": [op],
    }  # fmt: skip
    manifest = a_manifest(engine="cuda-int8", details=details)
    page = page_of(replace(parts, manifest=manifest, plan="step  kernel\n   0  <conv>"))
    for text in (
        "for sm_87, 11 kernels, not tuned: built for another box",
        "proven by cpu-int8 here",
        "not on the box that it is for",
        "on the CPU: 4 GATHER: GATHER <b> has no kernel",
        "0  <conv>",
    ):
        assert text in page.text


def test_a_backend_that_was_refused_is_told(parts: ReportParts) -> None:
    manifest = a_manifest(details={"refused": {"cuda": "out of memory"}})
    assert "not on cuda: out of memory" in page_of(replace(parts, manifest=manifest)).text
