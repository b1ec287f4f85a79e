"""What a report says of builds of many kinds."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import BundleError
from edgeq.explain.explanation import Explanation
from edgeq.explain.tensors import explain_tensors
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from edgeq.observe.report.tensors import MOST_CARDS
from tests import tiny
from tests.observe.markup import Page
from tests.observe.reports import (
    LATENCY,
    RECORD,
    VERDICT,
    a_manifest,
    heavy_tailed,
    histogram_of,
    page_of,
    some_parts,
    text_of,
)


@pytest.fixture(scope="module")
def parts() -> ReportParts:
    return some_parts()


def test_a_share_below_the_gate_that_passed_says_why(parts):
    output = {**VERDICT["outputs"][0], "accepted": 0.9, "accepted_upper": 0.97}
    text = text_of(replace(parts, verdict={**VERDICT, "outputs": [output]}))
    assert "with so few samples the true share may be as high as 97.0%" in text
    assert "at least 95%, within chance" in text


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
    equal = replace(record, candidates={"entropy": 27.48, "max": 27.5})
    text = text_of(replace(heavy_tailed(parts, "max"), record=equal))
    assert "as well as any other: 27.5 dB at the outputs, as by entropy." in text


def test_a_thousand_tensors_stay_a_page(parts):
    tensors = parts.explanation.tensors
    many = tuple(replace(t, name=f"{t.name}/{i}") for i in range(1000 // len(tensors))
                 for t in tensors)  # fmt: skip
    histograms = {t.name: parts.histograms[t.name.rsplit("/", 1)[0]] for t in many}
    layers = tuple(replace(parts.explanation.layers[0], index=i) for i in range(1000))
    explanation = replace(parts.explanation, tensors=many, layers=layers)
    html = report_html(replace(parts, explanation=explanation, histograms=histograms))
    assert len(html) < 1_500_000
    assert html.count("<title>Values of ") == MOST_CARDS


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


def test_the_float_model_s_bundle_says_what_it_is(parts):
    manifest = a_manifest(engine="float", method="none", refined=(), float_ops=())
    bare = ReportParts(manifest, {}, Explanation(()), {}, LATENCY[:1], bytes_float=2_500_000)
    text = text_of(bare)
    for word in ("This is the float model as it arrived.", "All: this is the float model.",
                 "1.5 ms", "half of the runs end by then"):  # fmt: skip
        assert word in text


def test_many_float_ops_are_counted_by_kind_and_folded(parts):
    ops = tuple({"index": i, "name": "ADD" if i % 3 else "<MUL>", "reason": f"why {i}"}
                for i in range(10))  # fmt: skip
    text = text_of(replace(parts, manifest=a_manifest(float_ops=ops)))
    assert "6 ADD, 4 <MUL>." in text
    assert "All 10, and why each" in text
    assert "why 9" in text


def test_a_verdict_without_outputs_is_a_page_too(parts):
    assert "It was judged on 16 held-out" in text_of(
        replace(parts, verdict={**VERDICT, "outputs": []})
    )


def test_a_model_that_came_as_int8_is_compared_with_the_reference_kernels(parts):
    output = {"name": "y", "agreement": None, "accepted": None, "cosine": 0.9999, "sqnr_db": 31.0}
    verdict = {**VERDICT, "outputs": [output]}
    manifest = a_manifest(method="as-is", refined=(), float_ops=(), samples=0)
    text = text_of(replace(parts, manifest=manifest, verdict=verdict, record=BuildRecord(),
                           explanation=Explanation(()), histograms={}))  # fmt: skip
    for word in ("with the scales it arrived with", "as it arrived", "Nothing was mapped here",
                 "Against the runtime's reference kernels on 16 held-out samples"):  # fmt: skip
        assert word in text
