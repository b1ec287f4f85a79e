from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edgeq.observe.page import render_page

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "<script>alert(1)</script>\"'&$models ${x}"


class Page(HTMLParser):
    """Checks that tags nest, and gathers them with the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_model(**changes: Any) -> dict[str, Any]:
    model = {
        "live": {"version": "3", "engine": "cpu-int8", "since": 0.0, "method": "entropy"},
        "state": "serving",
        "reason": "",
        "progress": None,
        "previous": "2",
        "pinned": False,
        "drift": {"active": False, "reason": "", "samples": 200, "tensors": []},
        "samples": {"fit": 48, "held_out": 16, "bytes": 4096, "minimum": 64, "maximum": 1024},
        "latency": {"count": 12, "p50_ms": 0.5, "p99_ms": 1.25},
    }
    return {**model, **changes}


def a_status(**models: dict[str, Any]) -> dict[str, Any]:
    return {"started": 0.0, "models": models, "events": [], "quarantine": []}


def text_of(status: dict[str, Any]) -> str:
    return re.sub(r"\s+", " ", Page(render_page(status)).text)


def test_the_page_tells_version_engine_latency_and_samples():
    text = text_of(a_status(face=a_model()))
    for part in ("face version 3", "serving", "cpu-int8, entropy", "p50 0.50 ms, p99 1.25 ms",
                 "64 stored, 64 needed", "none in the last 200 samples"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize("state", ["waiting", "serving", "building", "probation", "failed"])
def test_every_state_has_its_place(state):
    assert state in text_of(a_status(face=a_model(state=state)))


def test_a_model_that_serves_nothing_says_so():
    status = a_status(face=a_model(live=None, latency=None, drift=None, state="waiting"))
    assert "not served" in text_of(status)


def test_a_running_build_shows_how_far_it_is():
    progress = {"stage": "calibrate", "done": 3, "total": 48}
    assert "calibrate 3 of 48" in text_of(a_status(face=a_model(progress=progress)))
    progress = {"stage": "bundle", "done": 0, "total": 0}
    assert "build" in text_of(a_status(face=a_model(progress=progress)))


def test_a_drift_is_told_in_words():
    drift = {"active": True, "reason": "input 'x': lower, PSI 0.41 > 0.10", "samples": 200}
    assert "lower, PSI 0.41 > 0.10" in text_of(a_status(face=a_model(drift=drift)))


def test_a_pinned_model_says_so():
    assert "pinned" in text_of(a_status(face=a_model(pinned=True)))


def test_without_models_the_page_says_what_to_do():
    assert "drop a .tflite file" in text_of(a_status())


def test_nothing_from_outside_becomes_markup():
    hostile_event = {"time": 0.0, "name": HOSTILE, "version": 1, "kind": HOSTILE,
                     "message": HOSTILE}  # fmt: skip
    refused = {"time": 0.0, "name": HOSTILE, "stage": HOSTILE, "error": HOSTILE, "hint": HOSTILE}
    live = {"version": HOSTILE, "engine": HOSTILE, "since": 0.0, "method": HOSTILE}
    progress = {"stage": HOSTILE, "done": 1, "total": 2}
    drift = {"active": True, "reason": HOSTILE, "samples": 1}
    model = a_model(live=live, state=HOSTILE, reason=HOSTILE, progress=progress, drift=drift,
                    previous=HOSTILE)  # fmt: skip
    status = {**a_status(**{HOSTILE: model}), "events": [hostile_event], "quarantine": [refused]}
    html = render_page(status)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(HOSTILE) >= 11


def test_the_page_needs_nothing_from_elsewhere():
    html = render_page(a_status(face=a_model()))
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    targets = [v for _, a in page.tags for k, v in a.items() if k in ("href", "src", "action")]
    assert targets == ["/edgeq/status"]
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_is_a_whole_document():
    html = render_page(a_status(face=a_model()))
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert html.lower().startswith("<!doctype html>")
    assert tags[0] == "html"
    assert [tags.count(tag) for tag in ("html", "head", "title", "body", "main", "h1")] == [1] * 6
    assert dict(page.tags)["html"] == {"lang": "en"}


def test_events_and_quarantine_are_listed_newest_as_given():
    event = {"time": 0.0, "name": "face", "version": None, "kind": "committed", "message": "v 1"}
    refused = {"time": 0.0, "name": "hand", "stage": "structure", "error": "cut", "hint": "again"}
    text = text_of({**a_status(), "events": [event], "quarantine": [refused]})
    assert "committed" in text
    assert "None" not in text.replace("None.", "")
    assert "structure" in text
    assert "again" in text
