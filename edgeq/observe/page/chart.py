"""The series of a model -> a picture of its last hour: times by version, requests, swaps.

Places across are in percent, so that the picture is as wide as the page while its letters keep
their size; paths, which cannot have percents, lie in a part that is stretched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from edgeq.observe.page.element import NARROW, Element, element
from edgeq.observe.page.words import milliseconds, number

TOP, PLOT, GAP, BARS = 18, 84, 6, 22  # heights, from above
FINE = 5  # what is stretched counts in seconds across, and down in fifths of a pixel
SPANS_S = (300, 900, 3600)
COLORS = 6
LINE_HEIGHT = 14
LABEL_SHARE = 0.05  # of the width, which a swap's label needs

Points = Sequence[Sequence[Any]]  # time, version, engine, requests, p50_ms, p99_ms


@dataclass(frozen=True)
class _Axes:
    """Seconds and milliseconds -> places."""

    start: float
    span_s: int
    low: float  # ms, both powers of ten times 1, 2 or 5
    high: float

    def x(self, seconds: float) -> float:
        """Return the place from the left, 0 to 1."""
        return min(max((seconds - self.start) / self.span_s, 0.0), 1.0)

    def y(self, ms: float) -> float:
        """Return the place from above on a log axis, in pixels."""
        share = math.log(max(ms, self.low) / self.low) / math.log(self.high / self.low)
        return PLOT * (1.0 - share)

    def rows(self, times: Sequence[float]) -> list[int]:
        """Return `y` of each, in the units of what is stretched."""
        log, low, top = math.log, self.low, math.log(self.high)
        scale = PLOT * FINE / (top - log(low))
        return [round(scale * (top - log(ms if ms > low else low))) for ms in times]

    def column(self, end: int, interval_s: int) -> int:
        """Return where an interval begins, in whole seconds from the left."""
        return end - interval_s - round(self.start)


def latency_chart(name: str, series: Mapping[str, Any], now: float) -> Element | None:
    """Return the picture, None without a request in the last hour."""
    points = [p for p in series["points"] if now - SPANS_S[-1] < p[0]]
    if not points:
        return None
    interval_s = series["interval_s"]
    end = math.ceil(now / interval_s) * interval_s  # so that the picture changes once in 10 s
    age = end - (points[0][0] - interval_s)
    span_s = next((span for span in SPANS_S if age <= span), SPANS_S[-1])
    axes = _Axes(end - span_s, span_s, *_range(points))
    swaps = [mark for mark in series["swaps"] if axes.start < mark["time"] <= end]
    return element(
        "svg",
        _grid(axes),
        _lines(points, axes, interval_s),
        _requests(points, axes, interval_s),
        _marks(points, swaps, axes),
        class_="chart",
        role="img",
        aria_label=_said(name, points, swaps, span_s),
        width="100%",
        height=TOP + PLOT + GAP + BARS + 16,
    )


def _range(points: Points) -> tuple[float, float]:
    low = min(p[4] for p in points)
    high = max(p[5] for p in points)
    low, high = _step(max(low, 1e-3), down=True), _step(max(high, 1e-3), down=False)
    return low, high if high > low else low * 10


def _step(value: float, *, down: bool) -> float:
    """The nearest 1, 2 or 5 times a power of ten below or above."""
    decade = 10.0 ** math.floor(math.log10(value))
    steps = [decade * f for f in (1, 2, 5, 10)]
    if down:
        return max(step for step in steps if step <= value * 1.0001)
    return min(step for step in steps if step >= value * 0.9999)


def _levels(axes: _Axes) -> list[float]:
    """At most four of the steps, both ends among them."""
    levels = [axes.low]
    while levels[-1] < axes.high * 0.999:
        levels.append(_step(levels[-1] * 1.5, down=False))
    stride = math.ceil((len(levels) - 1) / 3)
    kept = [each for each in levels[:-1:stride] if axes.y(each) >= LINE_HEIGHT]
    return [*kept, levels[-1]]


def _grid(axes: _Axes) -> list[Element]:
    parts = []
    for level in _levels(axes):
        y = round(TOP + axes.y(level), 1)
        parts += [
            element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y),
            element("text", f"{level:g}{NARROW}ms", class_="axis", x="2", y=y - 3),
        ]
    below = TOP + PLOT + GAP + BARS + 12
    ago = f"{axes.span_s // 60} min ago"
    return [
        *parts,
        element("text", ago, class_="axis", x="0", y=below),
        element("text", "now", class_="axis", x="100%", y=below, text_anchor="end"),
    ]


def _lines(points: Points, axes: _Axes, interval_s: int) -> Element:
    """For each version a line at p50, and up to p99 a band."""
    parts = []
    for run in _runs(points, interval_s):
        color = _color(run[0][1])
        x = axes.column(run[0][0], interval_s)
        middle = axes.rows([p[4] for p in run])
        upper = axes.rows([p[5] for p in run])
        back = _steps(middle[::-1], -interval_s)
        band = f"M{x} {middle[0]}{_steps(upper, interval_s)}{back}z"
        line = f"M{x} {middle[0]}{_steps(middle, interval_s)}"
        parts += [
            element("path", class_=f"band {color}", d=band),
            element("path", class_=f"line {color}", d=line),
        ]
    return _stretched(parts, axes.span_s, TOP, PLOT)


def _requests(points: Points, axes: _Axes, interval_s: int) -> list[Element]:
    """Below, how many requests there were; versions in one interval are stacked as one."""
    counts: dict[int, int] = {}
    for point in points:
        counts[point[0]] = counts.get(point[0], 0) + point[3]
    most = max(counts.values())
    floor, first = BARS * FINE, axes.column(0, interval_s)
    scale, highest = floor / most, floor - FINE  # any request at all is seen
    tops = {at: min(round(floor - scale * count), highest) for at, count in counts.items()}
    bars = [f"M{first + at} {floor}V{y}h{interval_s}V{floor}z" for at, y in tops.items()]
    top = TOP + PLOT + GAP
    label = f"{number(most / interval_s)} requests/s"
    return [
        _stretched([element("path", class_="requests", d="".join(bars))], axes.span_s, top, BARS),
        element("text", label, class_="axis", x="2", y=top + 9),
    ]


def _marks(points: Points, swaps: Sequence[Mapping[str, Any]], axes: _Axes) -> list[Element]:
    """A line at each swap and what serves since; of labels that would overlap the last stays."""
    if not swaps:
        return []
    parts = []
    versions = [points[0][1], *(mark["version"] for mark in swaps)]
    places = [axes.x(points[0][0]), *(axes.x(mark["time"]) for mark in swaps), 2.0]
    for mark, x in zip(swaps, places[1:], strict=False):
        title = element("title", f"version {mark['version']}, {mark['engine']}")
        at, bottom = f"{x:.2%}", TOP + PLOT + GAP + BARS
        parts.append(element("line", title, class_="swap", x1=at, x2=at, y1=TOP - 5, y2=bottom))
    for version, (x, following) in zip(versions, pairwise(places), strict=True):
        if following - x >= LABEL_SHARE:
            parts.append(_label(version, x))
    return parts


def _label(version: str, x: float) -> Element:
    anchor = "end" if x > 1 - LABEL_SHARE else "middle" if x > LABEL_SHARE else "start"
    return element(
        "text",
        f"v{version}",
        class_=f"swap {_color(version)}",
        x=f"{x:.2%}",
        y=TOP - 8,
        text_anchor=anchor,
    )


def _runs(points: Points, interval_s: int) -> list[list[Sequence[Any]]]:
    """Points of one version without a gap."""
    runs: dict[str, list[list[Sequence[Any]]]] = {}
    for point in points:
        known = runs.setdefault(point[1], [])
        if known and point[0] - known[-1][-1][0] <= interval_s:
            known[-1].append(point)
        else:
            known.append([point])
    return [run for known in runs.values() for run in known]


def _steps(ys: Sequence[int], width: int) -> str:
    return "".join([f"V{y}h{width}" for y in ys])


def _stretched(parts: list[Element], span_s: int, top: int, height: int) -> Element:
    return element(
        "svg",
        parts,
        x="0",
        y=top,
        width="100%",
        height=height,
        viewBox=f"0 0 {span_s} {height * FINE}",
        preserveAspectRatio="none",
    )


def _color(version: str) -> str:
    return f"c{int(version) % COLORS}" if version.isdigit() else "c0"


def _said(name: str, points: Points, swaps: Sequence[Mapping[str, Any]], span_s: int) -> str:
    last = points[-1]
    parts = [
        f"Inference time of {name} over {span_s // 60} minutes",
        f"at last version {last[1]}: p50 {milliseconds(last[4])}, p99 {milliseconds(last[5])}",
    ]
    if swaps:
        parts.append(f"versions that took over: {', '.join(s['version'] for s in swaps)}")
    return "; ".join(parts)
