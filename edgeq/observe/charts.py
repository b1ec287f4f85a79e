"""Histogram and ranges -> an SVG that needs neither scripts nor other files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, Histogram

Array = npt.NDArray[Any]
Range = tuple[float, float]

WIDTH, PLOT_HEIGHT = 400, 100
LEFT, RIGHT = 26, 392  # of the plot; to the left stand the counts
ROW_HEIGHT, TICK_HEIGHT = 16, 18
COLUMNS = 92
HALF_LETTER = 3.1  # half the width of a letter, about: labels stay within the picture


def printable(text: str) -> str:
    """Return the text escaped, without what could reorder or hide what stands beside it."""
    seen = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(seen, quote=True)


def number(value: float) -> str:
    """Return a number as short as a picture needs it."""
    return f"{value:.4g}"


def histogram_svg(histogram: Histogram, ranges: Mapping[str, Range], title: str) -> str:
    """Draw how often each value occurs, on a log axis, and each named range as a labelled line.

    Names with the same range share a line in the color of the first. The picture is 400 wide and
    scales.
    """
    rows, order = _merged(ranges), list(ranges)
    axis = _Axis.of(histogram, list(rows))
    top = ROW_HEIGHT * len(rows) + 4
    bottom = top + PLOT_HEIGHT
    parts = [
        _counts(histogram, axis, top, bottom),
        *(
            _row(i, order.index(names[0]), span, names, axis, bottom)
            for i, (span, names) in enumerate(rows.items())
        ),
        _ticks(axis, bottom),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {bottom + TICK_HEIGHT}" role="img" '
        f'aria-label="{printable(title)}">{"".join(parts)}</svg>'
    )


def _merged(ranges: Mapping[str, Range]) -> dict[Range, list[str]]:
    rows: dict[Range, list[str]] = {}
    for name, span in ranges.items():
        rows.setdefault(span, []).append(name)
    return rows


class _Axis:
    """Values -> places from left to right; 0 is always there, for INT8 always holds it."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0

    @classmethod
    def of(cls, histogram: Histogram, ranges: Sequence[Range]) -> _Axis:
        seen = (histogram.min, histogram.max) if histogram.count else (0.0, 0.0)
        ends = [0.0, *seen, *(end for span in ranges for end in span)]
        return cls(min(ends), max(ends))

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0)


def _counts(histogram: Histogram, axis: _Axis, top: int, bottom: int) -> str:
    """The counts as one path, and a line at every third power of ten."""
    columns = _columns(histogram, axis)
    peak = math.log10(max(float(columns.max(initial=0.0)), 1.0)) + 1.0  # a count of 1 is seen too
    heights = np.where(columns > 0, np.log10(np.maximum(columns, 1.0)) + 1.0, 0.0)
    step = (RIGHT - LEFT) / COLUMNS
    tops = bottom - heights / peak * PLOT_HEIGHT
    path = "".join(f"V{y:.1f}h{step:.2f}" for y in tops)
    lines = "".join(
        _level(10**power, bottom - (power + 1) / peak * PLOT_HEIGHT)
        for power in range(0, int(peak), 3)
    )
    return f'{lines}<path class="counts" d="M{LEFT} {bottom}{path}V{bottom}z"/>'


def _columns(histogram: Histogram, axis: _Axis) -> Array:
    filled = np.flatnonzero(histogram.bins)
    centres = (filled - BINS + 0.5) * histogram.width
    share = (centres - axis.low) / (axis.high - axis.low)
    at = np.clip((share * COLUMNS).astype(np.int64), 0, COLUMNS - 1)
    columns: Array = np.bincount(at, histogram.bins[filled], COLUMNS)
    return columns


def _level(count: int, y: float) -> str:
    label = {1: "1", 10**3: "1k", 10**6: "1M", 10**9: "1G"}.get(count, f"{count:.0e}")
    return (
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{label}</text>'
    )


def _row(
    index: int, color: int, span: Range, names: Sequence[str], axis: _Axis, bottom: int
) -> str:
    """One range: a line from end to end with its names on it, and where it cuts the counts."""
    left, right = axis.at(span[0]), axis.at(span[1])
    y = ROW_HEIGHT * index + ROW_HEIGHT / 2 + 2
    label = ", ".join(names)
    reach = min(len(label) * HALF_LETTER, (RIGHT - LEFT) / 2)
    middle = min(max((left + right) / 2, LEFT + reach), RIGHT - reach)
    ends = "".join(
        f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{bottom}"/>'
        for x in (left, right)
    )
    return (
        f'<g class="range c{color % 6}">{ends}'
        f'<line class="span" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{middle:.1f}" y="{y + 3.5:.1f}" text-anchor="middle">{printable(label)}</text>'
        "</g>"
    )


def _ticks(axis: _Axis, bottom: int) -> str:
    """The ends and 0 in numbers; an end so near to 0 that both would overlap is left out."""
    marks = {axis.low: "start", axis.high: "end"}
    near = (axis.high - axis.low) * 0.12
    if axis.low < 0.0 < axis.high:
        marks = {v: anchor for v, anchor in marks.items() if abs(v) > near} | {0.0: "middle"}
    texts = "".join(
        f'<text class="axis" x="{axis.at(v):.1f}" y="{bottom + 13}" '
        f'text-anchor="{anchor}">{number(v)}</text>'
        for v, anchor in marks.items()
    )
    return f'<line class="base" x1="{LEFT}" x2="{RIGHT}" y1="{bottom}" y2="{bottom}"/>{texts}'
