from __future__ import annotations

import re
from typing import Any

from edgeq.observe.page.chart import latency_chart
from edgeq.observe.page.element import element, to_html

NOW = 1_700_000_000.0


def chart(*points: tuple[Any, ...], swaps: Any = ()) -> str:
    series = {"interval_s": 10, "points": points, "swaps": swaps}
    made = latency_chart("face", series, NOW)
    assert made is not None
    return to_html(made)


def at(ago_s: int, version: str = "1", requests: int = 10, p50: float = 0.5, p99: float = 1.0):
    return (int(NOW) - ago_s, version, "cpu-int8", requests, p50, p99)


def paths(svg: str, kind: str) -> list[tuple[str, int, int]]:
    """Color of each path, where it begins, and how far it goes."""
    found = re.findall(rf'<path class="{kind} (c\d)" d="M(-?\d+) ([^"]*)"', svg)
    return [
        (color, int(start), sum(map(int, re.findall(r"h(\d+)", d)))) for color, start, d in found
    ]


def test_nothing_to_show_is_no_picture():
    series = {"interval_s": 10, "points": [], "swaps": []}
    assert latency_chart("face", series, NOW) is None
    assert latency_chart("face", {**series, "points": [at(7200)]}, NOW) is None


def test_the_first_minutes_have_the_whole_width():
    assert "5 min ago" in chart(at(120), at(0))
    assert "15 min ago" in chart(at(600), at(0))
    assert "60 min ago" in chart(at(3000), at(0))


def test_a_point_is_as_wide_as_its_interval():
    assert paths(chart(at(0)), "line") == [("c1", 290, 10)]
    assert paths(chart(at(20), at(10), at(0)), "band") == [("c1", 270, 30)]


def test_a_gap_in_the_traffic_is_a_gap_in_the_line():
    svg = chart(at(100), at(90), at(20), at(10))
    assert len(paths(svg, "line")) == len(paths(svg, "band")) == 2


def test_each_version_has_a_line_in_a_color_of_its_own():
    svg = chart(at(30, "1"), at(20, "1"), at(20, "2"), at(10, "2"))
    assert [color for color, _, _ in paths(svg, "line")] == ["c1", "c2"]


def test_a_swap_is_marked_with_the_version_that_serves_since():
    swaps = [{"time": NOW - 150, "version": "2", "engine": "cpu-int8"}]
    svg = chart(at(290, "1"), at(0, "2"), swaps=swaps)
    assert re.search(r'<line class="swap" x1="50.00%"', svg)
    assert re.search(r'<text class="swap c2" x="50.00%"[^>]*>v2</text>', svg)
    assert "versions that took over: 2" in svg


def test_of_swaps_that_follow_at_once_the_last_is_named():
    swaps = [{"time": NOW - 150 + n, "version": str(n), "engine": "float"} for n in range(3)]
    svg = chart(at(290), at(0), swaps=swaps)
    assert svg.count('<line class="swap"') == 3
    assert re.findall(r">v(\d)</text>", svg) == ["1", "2"]


def test_the_axis_begins_and_ends_at_round_figures_and_has_four_lines_at_most():
    assert re.findall(r">([\d.]+)\N{NARROW NO-BREAK SPACE}ms</text>", chart(at(0))) == ["0.5", "1"]
    wide = re.findall(
        r">([\d.]+)\N{NARROW NO-BREAK SPACE}ms</text>", chart(at(0, p50=0.03, p99=740.0))
    )
    assert (wide[0], wide[-1]) == ("0.02", "1000")
    assert len(wide) <= 4


def test_a_time_of_zero_or_one_that_never_varies_has_an_axis_too():
    for p50, p99 in ((0.0, 0.0), (1.0, 1.0)):
        svg = chart(at(0, p50=p50, p99=p99))
        assert "nan" not in svg


def test_the_busiest_interval_is_the_highest_bar():
    svg = chart(at(20, requests=10), at(10, requests=40), at(0, requests=20))
    (bars,) = re.findall(r'<path class="requests" d="([^"]*)"', svg)
    assert [int(y) for y in re.findall(r"110V(\d+)h10", bars)] == [82, 0, 55]
    assert ">4.00 requests/s<" in svg


def test_an_hour_of_points_is_some_kilobytes():
    svg = chart(*(at(10 * n, p50=0.3 + n % 7 / 10, p99=2.0) for n in range(359, -1, -1)))
    assert len(svg) < 25_000


def test_an_element_leaves_out_what_is_not_there():
    made = element("p", "a", None, "", [element("b", "c"), None], class_="x", hidden=True, id=None)
    assert to_html(made) == '<p class="x" hidden="">a<b>c</b></p>'


def test_void_elements_have_no_end():
    assert to_html(element("meta", charset="utf-8")) == '<meta charset="utf-8">'
