"""Histograms as pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.observe.charts import LEFT, RIGHT, WIDTH, histogram_svg, printable
from tests.observe.test_page import Page

DRAW = np.random.default_rng(0)


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def heights(svg: str) -> np.ndarray:
    """How far each column of the counts rises above the base."""
    start, path = re.search(r'd="M\d+ (\d+)([^"]*)V\d+z"', svg).groups()
    return float(start) - np.array([float(y) for y in re.findall(r"V([\d.]+)h", path)])


def places(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'class="cut" x1="([\d.]+)"', svg)]


@pytest.mark.parametrize(
    "values",
    [
        DRAW.normal(size=10_000),
        np.maximum(DRAW.normal(size=10_000), 0) * 1e20,
        -np.abs(DRAW.normal(size=100)) * 1e-20,
        np.zeros(5),
        np.full(5, 7.0),
        [],
    ],
)
def test_every_histogram_has_a_picture_within_its_frame(values):
    histogram = histogram_of(values)
    low, high = (histogram.min, histogram.max) if histogram.count else (0.0, 0.0)
    svg = histogram_svg(histogram, {"max": (low, high), "half": (low / 2, high / 2)}, "x")
    Page(svg)
    assert "nan" not in svg
    assert "inf" not in svg
    assert (heights(svg) >= 0).all()
    assert heights(svg).any() == bool(histogram.count)
    assert all(LEFT <= x <= RIGHT for x in places(svg))


def test_counts_stand_on_a_log_axis():
    svg = histogram_svg(histogram_of(np.repeat([1.0, 2.0, 3.0], [1, 100, 10_000])), {}, "x")
    one, hundred, most = (h for h in heights(svg) if h)
    assert hundred - one == pytest.approx(most - hundred, abs=0.2)
    assert one > 0


def test_a_threshold_stands_where_its_value_is():
    svg = histogram_svg(histogram_of(np.linspace(-4, 4, 999)), {"mse": (-2.0, 2.0)}, "x")
    left, right = places(svg)
    assert left == pytest.approx(LEFT + (RIGHT - LEFT) / 4, abs=0.2)
    assert right == pytest.approx(LEFT + (RIGHT - LEFT) * 3 / 4, abs=0.2)
    assert ">mse</text>" in svg


def test_methods_that_agree_share_a_line():
    spans = {"entropy": (0.0, 1.0), "mse": (0.0, 1.0), "max": (0.0, 2.0)}
    svg = histogram_svg(histogram_of([0.5, 2.0]), spans, "x")
    assert ">entropy, mse</text>" in svg
    assert svg.count('class="span"') == 2
    assert re.findall(r'class="range (c\d)"', svg) == ["c0", "c2"]  # max keeps its color


def test_a_range_wider_than_the_values_is_seen_whole():
    svg = histogram_svg(histogram_of([0.0, 1.0]), {"INT8": (-10.0, 10.0)}, "x")
    assert places(svg) == [LEFT, RIGHT]
    assert np.flatnonzero(heights(svg)).min() > 40


def test_a_label_stays_within_the_picture():
    long = ", ".join(["entropy-unguarded"] * 3)
    svg = histogram_svg(histogram_of([0.0, 9.0]), {long: (0.0, 0.1)}, "x")
    (middle,) = re.findall(r'<text x="([\d.]+)" [^>]*middle">entropy', svg)
    assert LEFT < float(middle) < WIDTH / 2 + LEFT


def test_text_cannot_break_out_hide_or_turn_around():
    text = printable("<b>\"'&\x00\u202e\ud800\n")
    assert text == "&lt;b&gt;&quot;&#x27;&amp;" + "\N{REPLACEMENT CHARACTER}" * 4
    svg = histogram_svg(histogram_of([1.0]), {"<script>": (0.0, 1.0)}, '"><script>')
    assert "<script" not in svg
