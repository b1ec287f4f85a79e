"""A histogram and the ranges of several methods -> the counts on a log axis, what is clipped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, Histogram
from edgeq.observe.charts.marks import (
    Axis,
    axis_labels,
    columns_path,
    label,
    line,
    number,
    picture,
    stretched,
)

Array = npt.NDArray[Any]
Range = tuple[float, float]

COLUMNS = 96
ROW_HEIGHT, PLOT_HEIGHT, FOOT = 17, 104, 18
COUNTS = {0: "1", 3: "1k", 6: "1M", 9: "1G"}  # labels by power of ten
# The colour of a range is its method's, on every picture.
COLOURS = {
    "entropy": "c0", "entropy-unguarded": "c1", "percentile": "c2", "mse": "c3", "max": "c4",
    "INT8": "c5",
}  # fmt: skip


def histogram_picture(
    histogram: Histogram, ranges: Mapping[str, Range], kept: Range | None, title: str
) -> str:
    """Draw how often each value occurs, on a log axis, and each named range as a labelled line.

    Names with the same range share a line. What lies outside `kept` is drawn as clipped.
    """
    rows = _merged(ranges)
    axis = _axis_of(histogram, list(rows))
    top = ROW_HEIGHT * len(rows) + 4
    bottom = top + PLOT_HEIGHT
    described = "; ".join(
        f"{', '.join(names)}: {number(low)} to {number(high)}"
        for (low, high), names in rows.items()
    )
    parts = [
        *_counts(histogram, axis, kept, top, bottom),
        *(_row(i, span, names, axis, bottom) for i, (span, names) in enumerate(rows.items())),
        line(0, bottom, 100, bottom, "base"),
        *axis_labels(axis, bottom + 13),
    ]
    return picture(bottom + FOOT, title, described, parts)


def _merged(ranges: Mapping[str, Range]) -> dict[Range, list[str]]:
    rows: dict[Range, list[str]] = {}
    for name, span in ranges.items():
        rows.setdefault(span, []).append(name)
    return rows


def _axis_of(histogram: Histogram, ranges: Sequence[Range]) -> Axis:
    """0 is always there, for INT8 always holds it."""
    seen = (histogram.min, histogram.max) if histogram.count else (0.0, 0.0)
    return Axis.over([0.0, *seen, *(end for span in ranges for end in span)])


def _counts(
    histogram: Histogram, axis: Axis, kept: Range | None, top: int, bottom: int
) -> list[str]:
    """The counts inside and outside the kept range, and a line at every third power of ten."""
    inside, outside = _columns(histogram, axis, kept)
    peak = math.log10(max(float((inside + outside).max(initial=0.0)), 1.0)) + 1.0
    grid = []
    for power, name in COUNTS.items():
        if power < int(peak):
            y = bottom - (power + 1) / peak * PLOT_HEIGHT
            grid += [line(0, y, 100, y, "grid"), label(100, y - 3, name, anchor="end")]
    drawn = []
    for css, columns in (("clipped", inside + outside), ("counts", inside)):
        if columns.any() and (css == "counts" or outside.any()):
            # A count of 1 is seen too; a column that is partly clipped shows what is kept.
            seen = np.where(outside > 0, columns, 0.0) if css == "clipped" else columns
            heights = np.where(seen > 0, np.log10(np.maximum(seen, 1.0)) + 1.0, 0.0)
            path = columns_path((heights / peak * PLOT_HEIGHT).tolist(), PLOT_HEIGHT)
            drawn.append(stretched(top, PLOT_HEIGHT, COLUMNS, path, css))
    return [*drawn, *grid]


def _columns(histogram: Histogram, axis: Axis, kept: Range | None) -> tuple[Array, Array]:
    filled = np.flatnonzero(histogram.bins)
    centres = (filled - BINS + 0.5) * histogram.width
    centres = np.clip(centres, histogram.min, histogram.max) if filled.size else centres
    share = (centres - axis.low) / (axis.high - axis.low)
    at = np.clip((np.nan_to_num(share) * COLUMNS).astype(np.int64), 0, COLUMNS - 1)
    low, high = kept or (-math.inf, math.inf)
    is_kept = (centres >= low) & (centres <= high)
    counts = histogram.bins[filled]
    return (
        np.bincount(at, counts * is_kept, COLUMNS),
        np.bincount(at, counts * ~is_kept, COLUMNS),
    )


def _row(index: int, span: Range, names: Sequence[str], axis: Axis, bottom: int) -> str:
    """One range: a line from end to end with its names on it, and where it cuts the counts."""
    left, right = axis.at(span[0]), axis.at(span[1])
    y = ROW_HEIGHT * index + ROW_HEIGHT / 2 + 2
    cuts = "".join(line(x, y, x, bottom, "cut") for x in (left, right))
    colour = COLOURS.get(names[0], "c5")
    return (
        f'<g class="range {colour}">{cuts}{line(left, y, right, y, "span")}'
        f"{label((left + right) / 2, y + 4, ', '.join(names), 'name')}</g>"
    )
