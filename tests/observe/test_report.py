"""A build's report."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from edgeq.explain.explanation import Explanation
from edgeq.observe.report import BuildRecord, ReportParts, report_html
from tests.observe.markup import HOSTILE, Page
from tests.observe.reports import VERDICT, a_manifest, page_of, some_parts, text_of


@pytest.fixture(scope="module")
def parts() -> ReportParts:
    return some_parts()


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


def test_where_the_build_s_time_went_is_shown(parts):
    text = text_of(parts)
    assert "2.5 s, from the model's first byte" in text
    for word in ("calibrate: a histogram of every tensor", "1.50 s"):
        assert word in text
    assert "no build.json" in text_of(replace(parts, record=BuildRecord()))


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
             "open", "id", "role", "aria-label", "aria-labelledby", "href", "scope",
             "tabindex"}  # fmt: skip
    attributes = {key for tag, attrs in page.tags for key in attrs if tag not in SVG}
    assert attributes <= known


SVG = {"svg", "g", "path", "line", "text", "rect", "circle"}
