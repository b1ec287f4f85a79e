"""Numbers as pictures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeq.calibrate.entropy import divergence_curve
from edgeq.calibrate.histogram import Histogram
from edgeq.explain.spread import spread
from edgeq.observe.charts.codes import codes_picture
from edgeq.observe.charts.curve import Threshold, divergence_picture
from edgeq.observe.charts.depth import Depth, depth_picture
from edgeq.observe.charts.histogram import COLUMNS, histogram_picture
from edgeq.observe.charts.marks import Axis, label, printable, short, ticks
from edgeq.observe.charts.rows import (
    Timed,
    change_picture,
    dots_picture,
    latency_picture,
    stages_picture,
)

DRAW = np.random.default_rng(0)
HISTOGRAMS = [
    DRAW.normal(size=10_000),
    np.maximum(DRAW.normal(size=10_000), 0) * 1e20,
    -np.abs(DRAW.normal(size=100)) * 1e-20,
    np.array([-3e38, 3e38]),
    np.zeros(5),
    np.full(5, 7.0),
    [],
]


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    return histogram


def drawn(svg: str) -> ElementTree.Element:
    """The picture as XML, once it is known to be named, and whole."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert [child.tag for child in root][:2] == ["title", "desc"]
    assert not re.search(r"\bnan\b|\binf\b", re.sub(r"<(title|desc)>.*?</\1>", "", svg))
    for element in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            place = element.get(key, "0%")
            assert -0.01 <= float(place.rstrip("%")) <= 100.01
    return root


def of_class(root: ElementTree.Element, css: str) -> list[ElementTree.Element]:
    return [element for element in root.iter() if element.get("class") == css]


def heights(root: ElementTree.Element, css: str) -> np.ndarray:
    """How far each column of a path rises above its foot."""
    (path,) = of_class(root, css)
    foot, rest = re.match(r"M0 ([\d.]+)(.*)z", path.get("d")).groups()
    columns, at, level = [], 0, float(foot)
    for command, value in re.findall(r"([HV])([\d.]+)", rest):
        if command == "H":
            columns += [float(foot) - level] * (int(value) - at)
            at = int(value)
        else:
            level = float(value)
    return np.array(columns)


def cuts(root: ElementTree.Element) -> list[float]:
    return [float(line.get("x1").rstrip("%")) for line in of_class(root, "cut")]


@pytest.mark.parametrize("values", HISTOGRAMS)
def test_every_histogram_has_a_picture_within_its_frame(values):
    histogram = histogram_of(values)
    low, high = (histogram.min, histogram.max) if histogram.count else (0.0, 0.0)
    ranges = {"max": (low, high), "mse": (low / 2, high / 2)}
    root = drawn(histogram_picture(histogram, ranges, (low, high), "x"))
    assert bool(of_class(root, "counts")) == bool(histogram.count)
    assert not of_class(root, "clipped")


def test_counts_stand_on_a_log_axis():
    histogram = histogram_of(np.repeat([1.0, 2.0, 3.0], [1, 100, 10_000]))
    found = heights(drawn(histogram_picture(histogram, {}, None, "x")), "counts")
    one, hundred, most = (h for h in found if h)
    assert hundred - one == pytest.approx(most - hundred, abs=0.3)
    assert one > 0


def test_a_threshold_stands_where_its_value_is():
    histogram = histogram_of(np.linspace(-4, 4, 999))
    root = drawn(histogram_picture(histogram, {"mse": (-2.0, 2.0)}, None, "x"))
    assert cuts(root) == pytest.approx([25, 75], abs=0.1)
    assert [text.text for text in of_class(root, "name")] == ["mse"]


def test_what_is_clipped_is_drawn_apart():
    histogram = histogram_of(np.linspace(-4, 4, 9990))
    root = drawn(histogram_picture(histogram, {}, (-2.0, 4.0), "x"))
    clipped, kept = heights(root, "clipped"), heights(root, "counts")
    assert np.flatnonzero(clipped).max() == COLUMNS // 4 - 1
    assert np.flatnonzero(kept).min() == COLUMNS // 4


def test_methods_that_agree_share_a_line():
    spans = {"entropy": (0.0, 1.0), "mse": (0.0, 1.0), "max": (0.0, 2.0)}
    root = drawn(histogram_picture(histogram_of([0.5, 2.0]), spans, None, "x"))
    assert [text.text for text in of_class(root, "name")] == ["entropy, mse", "max"]
    assert len(of_class(root, "span")) == 2
    assert [g.get("class") for g in root.iter("g")] == ["range c0", "range c4"]


def test_a_range_wider_than_the_values_is_seen_whole():
    root = drawn(histogram_picture(histogram_of([0.0, 1.0]), {"INT8": (-10.0, 10.0)}, None, "x"))
    assert cuts(root) == [0, 100]
    assert np.flatnonzero(heights(root, "counts")).min() >= COLUMNS // 2


@pytest.mark.parametrize("values", HISTOGRAMS)
def test_every_divergence_has_a_picture(values):
    counts, width = histogram_of(values).magnitudes()
    candidates, found = divergence_curve(counts, 128, 32)
    marks = [
        Threshold("least", float(candidates[-1] * width), 0.0, "c0"),
        Threshold("in use", 0.0, None, "c5"),
    ]
    root = drawn(divergence_picture(candidates * width, found, marks, "x"))
    assert len(of_class(root, "cut")) == 2
    assert len(of_class(root, "mark")) == 1  # what is infinite has no place on the curve


def test_the_curve_falls_to_its_least_candidate():
    values = DRAW.laplace(size=50_000)
    counts, width = histogram_of(values).magnitudes()
    candidates, found = divergence_curve(counts, 128, 64)
    root = drawn(divergence_picture(candidates * width, found, [], "x"))
    (path,) = of_class(root, "curve")
    depths = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path.get("d"))]
    assert int(np.argmax(depths)) == int(np.argmin(found[np.isfinite(found)]))


def test_codes_stand_back_to_back_on_one_scale():
    histogram = histogram_of([*DRAW.normal(size=10_000), 100.0])
    by_max = spread(histogram, histogram.min, histogram.max)
    in_use = spread(histogram, -4.0, 4.0)
    root = drawn(codes_picture(by_max.counts, in_use.counts, ("max", "mse"), "x"))
    assert np.count_nonzero(heights(root, "codes-max")) < 20
    (below,) = of_class(root, "codes-used")
    assert below.get("d").count("H") > 60


def test_latency_scales_by_the_90th_percentile():
    rows = [Timed("float", 2.0, 4.0, "2 ms", False), Timed("INT8", 1.0, 1.5, "1 ms", True)]
    root = drawn(latency_picture(rows))
    ours = of_class(root, "bar-ours")
    widths = [float(bar.get("width").rstrip("%")) for bar in ours]
    assert widths == pytest.approx([100 / 4.08, 50 / 4.08], abs=0.01)
    drawn(latency_picture([Timed("x", 0.0, 0.0, "", True)]))


def test_stages_follow_one_another():
    root = drawn(stages_picture([("read", 1.0, "words"), ("calibrate", 3.0, ""), ("end", 0.0, "")]))
    bars = of_class(root, "bar-ours")
    assert [bar.get("x") for bar in bars] == ["0%", "25%", "99.6%"]
    assert [bar.get("width") for bar in bars] == ["25%", "75%", "0.4%"]
    drawn(stages_picture([("read", 0.0, "")]))


def test_the_method_in_use_is_told_from_the_others():
    rows = [("max", 20.0, True), ("mse", 10.0, False), ("entropy", 20.0, False)]
    root = drawn(dots_picture(rows, "x", "dB"))
    assert len(of_class(root, "mark-full")) == 1
    assert "max, in use" in {text.text for text in root.iter("text")}
    drawn(dots_picture([("max", -3.0, True)], "x", "dB"))


def test_a_loss_is_told_from_a_gain():
    axis = Axis.over([0.0, 40.0])
    assert of_class(drawn(change_picture(10, 20, axis, "x")), "gain")
    assert of_class(drawn(change_picture(20, 10, axis, "x")), "loss")


def test_layers_that_cost_most_are_numbered():
    layers = [Depth(f"l{i}", 100.0 - 40 * i, 0.1 * i, rank) for i, rank in enumerate((0, 2, 1, 0))]
    root = drawn(depth_picture(layers))
    assert [text.text for text in of_class(root, "rank")] == ["2", "1"]
    assert len(of_class(root, "bar-worst")) == 4  # how far from float, and the share of the noise
    up = [float(bar.get("height")) for bar in root.iter("rect")][::2]
    assert up == [150, 150, 50, 0.5]  # 60 dB is as good as any


def test_a_thousand_layers_have_no_words_each():
    layers = [Depth("long words " * 9, 30.0, 0.001, 0) for _ in range(1000)]
    assert len(depth_picture(layers)) < 200_000


def test_a_label_stays_within_the_picture():
    assert 'x="0%"' in label(1.0, 0, "entropy-unguarded, percentile, mse")
    assert 'x="100%" y="0" text-anchor="end"' in label(99.0, 0, "entropy-unguarded")
    assert 'x="50%" y="0" text-anchor="middle"' in label(50.0, 0, "mse")


def test_ticks_are_round_and_reach_the_end():
    assert ticks(1.0) == [0.0, 0.5, 1.0]
    assert ticks(0.37) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert ticks(0.0) == [0.0]


def test_long_names_keep_both_ends():
    assert short("relu;conv;bias") == "relu"
    assert short("a" * 100 + "z" * 100) == "a" * 30 + "\N{HORIZONTAL ELLIPSIS}" + "z" * 30


def test_text_cannot_break_out_hide_or_turn_around():
    text = printable("<b>\"'&\x00\u202e\ud800\n")
    assert text == "&lt;b&gt;&quot;&#x27;&amp;" + "\N{REPLACEMENT CHARACTER}" * 4
    hostile = '"><script>'
    root = drawn(histogram_picture(histogram_of([1.0]), {hostile: (0.0, 1.0)}, None, hostile))
    assert root.find("title").text == hostile
