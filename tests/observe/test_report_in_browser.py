"""The pages that people open from a file, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.observe.contact_sheet import sheet_html
from edgeq.observe.report import report_html
from edgeq.samples.image import Preprocessing
from edgeq.samples.sheet import sheet_of_store
from edgeq.samples.store import SampleStore
from tests.browser import Browser, Tab
from tests.observe.reports import RECORD, a_manifest, some_parts

OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
# What reaches beyond the page to the right, but for what scrolls by itself.
TOO_WIDE = """[...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + '.' + e.getAttribute('class'))"""
LABELS_CUT = """[...document.querySelectorAll('svg text')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map(e => e.textContent)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    parts = some_parts()
    tensors = tuple(replace(t, name=f"{t.name}{'/a_long_name' * 9}") for t in
                    parts.explanation.tensors)  # fmt: skip
    refinements = {"none": 29.0, "equalization+bias_correction+adaptive_rounding": 31.0}
    long = replace(
        parts,
        manifest=a_manifest(name="a_model_with_a_name_that_fills_more_than_a_phone" * 2),
        explanation=replace(parts.explanation, tensors=tensors),
        histograms={t.name: parts.histograms[t.name.split("/a_long")[0]] for t in tensors},
        record=replace(RECORD, refinements=refinements),
    )
    store = SampleStore(folder / "samples")
    for level in range(5):
        store.add({"x": np.full((1, 8, 8, 3), level * 50.0, np.float32)})
    sheet = sheet_of_store(store, Preprocessing(), 0.5, 60)
    texts = {"report": report_html(long), "sheet": sheet_html("face", sheet)}
    files = {name: folder / f"{name}.html" for name in texts}
    for name, text in texts.items():
        files[name].write_text(text, encoding="utf-8")
    return files


@pytest.mark.parametrize("name", ["report", "sheet"])
def test_a_page_fits_a_phone_and_a_desk_by_day_and_by_night(name, pages, browser: Browser):
    tab = Tab(browser, width=360)
    backgrounds = set()
    try:
        for scheme in ("light", "dark"):
            tab.set_scheme(scheme)
            tab.open(pages[name].as_uri())
            backgrounds.add(tab.run("getComputedStyle(document.body).backgroundColor"))
            for width in (360, 800, 1280):
                tab.resize(width)
                tab.run(OPEN_ALL)
                assert tab.run("document.documentElement.scrollWidth") <= width
                assert tab.run(TOO_WIDE) == []
                assert tab.run(LABELS_CUT) == []
        assert len(backgrounds) == 2
        assert tab.complaints() == []
        assert [url for url in tab.requests() if not url.startswith(("file:", "data:"))] == []
    finally:
        tab.close()


def test_every_picture_is_drawn(pages, browser: Browser):
    tab = Tab(browser)
    try:
        tab.open(pages["report"].as_uri())
        tab.run(OPEN_ALL)
        empty = """[...document.querySelectorAll('svg[role=img]')]
            .filter(e => { const b = e.getBBox(); return !(b.width > 50 && b.height > 2); })
            .map(e => e.textContent)"""
        assert tab.run(empty) == []
        tab.open(pages["sheet"].as_uri())
        tab.wait("document.images.length == 5 && "
                 "[...document.images].every(e => e.complete && e.naturalWidth == 8)")  # fmt: skip
    finally:
        tab.close()
