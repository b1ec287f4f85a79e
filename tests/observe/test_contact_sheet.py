"""Contact sheets."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeq.observe.contact_sheet import sheet_html, sheet_png
from edgeq.samples.image import Preprocessing
from edgeq.samples.sheet import sheet_of_store
from edgeq.samples.store import SampleStore
from tests.observe.markup import HOSTILE, Page


@pytest.fixture(scope="module")
def sheet(tmp_path_factory) -> dict[str, Any]:
    store = SampleStore(tmp_path_factory.mktemp("samples") / "face")
    draw = np.random.default_rng(0)
    for place in range(11):
        image = draw.uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
        features = draw.normal(size=(1, 6, 5)).astype(np.float32)
        (store.add if place < 2 else store.offer)({"image": image, "features": features})
    return sheet_of_store(store, Preprocessing(), 0.5, 60)


def test_each_sample_is_shown_with_time_set_and_id(sheet):
    page = Page(sheet_html("face", sheet))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 22
    assert all(attrs["alt"] for attrs in images)
    held_out = sum(sample["held_out"] for sample in sheet["samples"])
    assert page.text.count("held out") == held_out + 1
    for sample in sheet["samples"]:
        assert sample["id"][:8] in page.text
    assert "All 11 samples" in page.text


def test_samples_are_grouped_by_where_they_are_from(sheet):
    drifted = [{**s, "stratum": "since 2026-11-23T17:00:07Z"} if i > 7 and s["origin"] != "added"
               else s for i, s in enumerate(sheet["samples"])]  # fmt: skip
    text = Page(sheet_html("face", {**sheet, "samples": drifted, "total": 99})).text
    assert "Captured before any drift" in text
    assert "Captured in the drift since 2026-11-23T17:00:07Z" in text
    assert "Added by a person" in text
    assert "The newest 11 of 99 samples" in text


def test_the_page_says_that_it_is_private_and_needs_nothing_else(sheet):
    html = sheet_html("face", sheet)
    assert "Private:" in html
    assert "default-src 'none'; img-src data:" in html
    assert not re.search(r"https?://|@import|url\(|<script", html)
    sources = [attrs["src"] for tag, attrs in Page(html).tags if tag == "img"]
    assert all(source.startswith("data:image/") for source in sources)


def test_nothing_from_outside_is_markup(sheet):
    sample = sheet["samples"][0]
    picture = {**sample["pictures"][0], "input": HOSTILE, "content": HOSTILE, "media": HOSTILE}
    changed = {**sample, "id": HOSTILE, "stratum": HOSTILE, "origin": "captured",
               "pictures": [picture]}  # fmt: skip
    page = Page(sheet_html(HOSTILE, {"total": 1, "inputs": {HOSTILE: HOSTILE},
                                     "samples": [changed]}))  # fmt: skip
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE in page.text
    hostile_png = sheet_png(HOSTILE, {"total": 1, "inputs": {}, "samples": [changed]})
    assert hostile_png.startswith(b"\x89PNG")


def test_a_store_without_samples_says_so():
    empty: dict[str, Any] = {"total": 0, "inputs": {}, "samples": []}
    assert "There is no sample yet." in Page(sheet_html("face", empty)).text
    assert sheet_png("face", empty).startswith(b"\x89PNG")


def test_the_png_holds_every_first_input(sheet):
    with Image.open(io.BytesIO(sheet_png("face \N{SNOWMAN}", sheet))) as image:
        pixels = np.asarray(image)
    assert image.width > image.height
    cells = sum(len(np.unique(pixels[80:200, left : left + 120].reshape(-1, 3), axis=0)) > 20
                for left in range(20, image.width - 120, 152))  # fmt: skip
    assert cells == 8
