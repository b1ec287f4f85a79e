"""A build's report."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeq.bundle import Manifest
from edgeq.calibrate.collect import collect
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import BundleError
from edgeq.explain.explanation import Explanation
from edgeq.explain.tensors import explain_tensors
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from edgeq.observe.report.tensors import MOST_PICTURES
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained
from tests.observe.markup import HOSTILE, Page

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


@pytest.fixture(scope="module")
def parts() -> ReportParts:
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


def test_it_says_what_was_built_how_it_did_and_how_fast_it_is(parts):
    text = text_of(parts)
    for word in ("Built: INT8 on the CPU, with ranges by entropy from 48 samples, with bias",
                 "1 op kept float", "CUSTOM:x", "it has no INT8", "Passed",
                 "on 16 held-out samples: 100.0% of the time", "the gate asks for 95.0%",
                 "97.50%", "0.9991", "31.2 dB", "3.00\N{MULTIPLICATION SIGN} faster",
                 "0.5 ms, float 1.5 ms",
                 "1.500", "0.625", "1 kB", "25% of 4 kB", "SHA-256 abab",
                 "Note: every frame is dark.", "2 samples could not be used"):  # fmt: skip
        assert word in text


def test_a_share_below_the_gate_that_passed_says_why(parts):
    output = {**VERDICT["outputs"][0], "accepted": 0.9, "accepted_upper": 0.97}
    text = text_of(replace(parts, verdict={**VERDICT, "outputs": [output]}))
    assert "with so few samples the true share may be as high as 97.0%" in text


def test_an_output_that_is_no_score_is_judged_by_cosine_and_sqnr(parts):
    output = {"name": "boxes", "agreement": None, "accepted": None, "cosine": 0.97, "sqnr_db": 9.5}
    verdict = {**VERDICT, "passed": False, "outputs": [output], "reasons": ["too far"]}
    page = page_of(replace(parts, verdict=verdict))
    assert "Refused" in page.text
    assert (
        "a cosine of 0.9700 and an SQNR of 9.5 dB; the gate asks for a cosine of 0.98 and 10 dB"
        in page.text
    )
    assert "answers as float" not in page.text
    assert sum(attrs.get("class") == "bad" for tag, attrs in page.tags if tag == "strong") == 2


def test_slower_and_as_fast_are_said(parts):
    slower = [{**LATENCY[0], "p50_ms": 0.25}, LATENCY[1]]
    assert "2.00\N{MULTIPLICATION SIGN} slower" in text_of(replace(parts, latency=slower))
    alike = [{**LATENCY[0], "p50_ms": 0.5}, LATENCY[1]]
    assert "as fast" in text_of(replace(parts, latency=alike))
    alone = text_of(replace(parts, latency=LATENCY[1:]))
    assert "half of the runs end by then" in alone


def test_where_the_build_s_time_went_is_shown(parts):
    text = text_of(parts)
    assert "2.5 s, from the model's first byte" in text
    for word in ("calibrate: a histogram of every tensor", "1.50 s"):
        assert word in text
    assert "no build.json" in text_of(replace(parts, record=BuildRecord()))


def heavy_tailed(parts: ReportParts, method: str) -> ReportParts:
    """A bundle of one tensor with a few far values, its range by this method."""
    draw = np.random.default_rng(0)
    histogram = histogram_of(*draw.normal(size=20_000), 60.0)
    table = CalibrationTable.from_histograms("", method, 1, {"x": histogram})
    model = tiny.tiny_model()
    tensors = explain_tensors(model, model, table, {"x": histogram})
    return replace(parts, explanation=Explanation(tensors), histograms={"x": histogram},
                   manifest=a_manifest(method=method))  # fmt: skip


def test_what_max_mapping_would_have_cost_is_measured(parts):
    text = text_of(heavy_tailed(parts, "mse"))
    assert "What max mapping would have cost" in text
    assert "would have left 27.5 dB at the outputs; entropy leaves 30.0 dB, 2.5 dB more" in text
    assert "closer to float in the range in use" in text
    assert "comes out alike by all methods" in text_of(parts)
    one = replace(parts, record=replace(RECORD, candidates={}))
    assert "was not measured in this build: with --method auto it is" in text_of(one)


def test_a_method_that_was_asked_for_is_compared_on_the_golden_inputs(parts):
    unmeasured = replace(parts, record=replace(RECORD, candidates={}), golden=4)
    told = text_of(replace(unmeasured, by_method={"entropy": 20.0, "max": 25.0}))
    assert "would have left 25.0 dB at the outputs; entropy leaves 20.0 dB, 5.0 dB less" in told
    assert "on 4 golden inputs" in told
    as_max = replace(unmeasured, manifest=a_manifest(method="max"))
    told = text_of(replace(as_max, by_method={"mse": 20.5, "max": 20.0}))
    assert "was asked for: 20.0 dB at the outputs, 0.5 dB less than mse" in told


def test_refinements_are_shown_with_what_each_is_worth(parts):
    tried = {"none": 29.0, "bias_correction": 31.0, "bias_correction+adaptive_rounding": 30.0}
    html = report_html(replace(parts, record=replace(RECORD, refinements=tried)))
    assert "bias correction, in use" in html
    assert "bias correction + adaptive rounding" in html
    assert "Refinements tried" not in report_html(parts)  # there is nothing to compare


def test_the_engine_that_served_before_is_compared_pair_by_pair(parts):
    new = {"samples": 40, "gained": 7, "lost": 1, "gain_db": 2.25, "chance": 0.01}
    comparison = {"new": new, "old": {**new, "samples": 16, "gain_db": -0.5, "gained": None}}
    text = text_of(replace(parts, verdict={**VERDICT, "comparison": comparison}))
    assert "Against the engine that it replaces" in text
    for word in ("+2.2", "-0.5", "1.00%"):
        assert word in text
    for odd in ("words", {}, {"new": 3}):
        text = text_of(replace(parts, verdict={**VERDICT, "comparison": odd}))
        assert "Against the engine" not in text


def test_where_max_serves_best_the_cost_is_that_of_clipping(parts):
    record = replace(RECORD, candidates={"entropy": 20.0, "max": 27.5, "mse": 26.5})
    text = text_of(replace(heavy_tailed(parts, "max"), record=record))
    assert "what clipping would have cost" in text
    assert "27.5 dB at the outputs, 1.0 dB more than mse, the best of the others" in text
    assert "SQNR by max to mse" in text


def test_every_layer_has_a_bar_and_its_figures(parts):
    page = page_of(parts)
    bars = [a for tag, a in page.tags if tag == "rect" and a["class"] in ("bar-other", "bar-worst")]
    layers = len(parts.explanation.layers)
    assert len(bars) == 2 * layers + 2  # float's bar of the latency and its tail are two more
    for layer in parts.explanation.layers:
        assert f"{layer.sqnr_db:.1f}" in page.text
    assert f"All {layers} layers" in page.text


def test_the_worst_layers_are_in_words(parts):
    text = text_of(parts)
    assert len(parts.explanation.worst) == 5
    assert all(advice.text in text for advice in parts.explanation.worst)


def test_every_tensor_has_its_pictures_and_a_row_a_method(parts):
    html = report_html(parts)
    for tensor in parts.explanation.tensors:
        assert f"<title>Values of {tensor.name}</title>" in html
        assert f"<title>INT8 codes of {tensor.name}</title>" in html
        for name, method in tensor.methods.items():
            assert name in html
            assert f"{method.sqnr_db:.1f}" in html
    assert "<title>KL divergence of " in html


def test_every_picture_has_a_name_and_every_table_its_headers(parts):
    html = report_html(parts)
    assert html.count('role="img"><title>') == html.count('role="img"')
    page = page_of(parts)
    headers = [attrs for tag, attrs in page.tags if tag == "th"]
    assert headers
    assert all(attrs.get("scope") in ("col", "row") for attrs in headers)
    assert {"header", "nav", "main", "section", "h1", "h2"} <= {tag for tag, _ in page.tags}
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert targets <= {f"#{name}" for name in ids}


def test_the_tensors_of_the_worst_layers_come_first_and_open(parts):
    page = page_of(parts)
    folds = [attrs for tag, attrs in page.tags if tag == "details"]
    names = [advice.tensor for advice in parts.explanation.worst]
    assert sum("open" in attrs for attrs in folds) == len(set(names))
    html = report_html(parts)
    places = [html.index(f"<summary>{name}") for name in dict.fromkeys(names)]
    assert places == sorted(places)
    others = {t.name for t in parts.explanation.tensors} - set(names)
    assert all(html.index(f"<summary>{name}") > places[-1] for name in others)


def test_it_needs_nothing_else_and_runs_nothing(parts):
    html = report_html(parts)
    page = Page(html)
    assert not {"script", "img", "link", "iframe", "object", "use", "foreignObject"} & {
        tag for tag, _ in page.tags
    }
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
    no_worst = replace(parts.explanation, worst=())
    assert "None adds any noise." in text_of(replace(parts, explanation=no_worst))


def test_a_refusal_says_why(parts):
    refused = {**VERDICT, "passed": False, "reasons": ["output 'scores' has cosine 0.5"]}
    text = text_of(replace(parts, verdict=refused))
    assert "Refused" in text
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
    known = {"class", "style", "title", "lang", "charset", "name", "content", "http-equiv",
             "open", "id", "role", "aria-label", "aria-labelledby", "href", "scope", "tabindex"}  # fmt: skip
    attributes = {key for tag, attrs in page.tags for key in attrs if tag not in SVG}
    assert attributes <= known


SVG = {"svg", "g", "path", "line", "text", "rect", "circle"}


def test_a_thousand_tensors_stay_a_page(parts):
    tensors = parts.explanation.tensors
    many = tuple(replace(t, name=f"{t.name}/{i}") for i in range(1000 // len(tensors))
                 for t in tensors)  # fmt: skip
    histograms = {t.name: parts.histograms[t.name.rsplit("/", 1)[0]] for t in many}
    layers = tuple(replace(parts.explanation.layers[0], index=i) for i in range(1000))
    explanation = replace(parts.explanation, tensors=many, layers=layers)
    html = report_html(replace(parts, explanation=explanation, histograms=histograms))
    assert len(html) < 3_000_000
    assert html.count("<title>Values of ") == MOST_PICTURES


def histogram_of(*values: float) -> Histogram:
    histogram = Histogram()
    histogram.add(np.array(values, np.float32))
    return histogram


@pytest.mark.parametrize(
    "values", [(), (0.0, 0.0), (7.0, 7.0), (np.nan, np.inf), (-3e38, 3e38), (1e-30, np.nan)]
)
def test_odd_tensors_have_a_page_too(parts, values):
    """No value, all zero, constant, not finite, as wide as float32."""
    histogram = histogram_of(*values)
    table = CalibrationTable.from_histograms("", "entropy", 1, {"x": histogram})
    model = tiny.tiny_model()
    tensors = explain_tensors(model, model, table, {"x": histogram})
    html = report_html(
        replace(parts, explanation=Explanation(tensors, unmeasured="so"),
                histograms={"x": histogram}, manifest=a_manifest(float_ops=()))
    )  # fmt: skip
    Page(html)
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)
    assert ("No finite value was seen." in html) == (histogram.count == 0)


def test_a_record_is_read_as_it_was_written():
    assert BuildRecord.from_json(RECORD.to_json()) == RECORD


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", RECORD.to_json().replace(b"27.5", b"NaN"),
     RECORD.to_json().replace(b"27.5", b'"many"')],
)  # fmt: skip
def test_a_damaged_record_is_an_error_with_a_hint(content):
    with pytest.raises(BundleError, match=r"build\.json is damaged") as raised:
        BuildRecord.from_json(content)
    assert raised.value.hint


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
