"""The KL divergence of every candidate threshold -> a curve with the ones that were chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.observe.charts.marks import (
    Axis,
    dot,
    label,
    line,
    number,
    picture,
    stretched,
)

Array = npt.NDArray[Any]

TOP, PLOT_HEIGHT, FOOT = 34, 146, 18
ACROSS = 400.0  # units of the path's frame
LEAST = 1e-6  # nats: below it, all is equal
LEAST_DECADES = 1.0
GAP = 2.5  # times the usual step: between candidates farther apart it is infinite


@dataclass(frozen=True)
class Threshold:
    """One threshold on |x|, marked on the curve; `divergence` is None where it is infinite."""

    name: str
    at: float
    divergence: float | None
    css: str


def divergence_picture(
    thresholds: Array, divergences: Array, marked: Sequence[Threshold], title: str
) -> str:
    """Draw KL in nats, on a log axis, over the threshold; gaps are where it is infinite."""
    axis = Axis.over([0.0, *thresholds.tolist(), *(mark.at for mark in marked)])
    finite = divergences[np.isfinite(divergences)]
    height = _Log.over([*finite.tolist(), *(m.divergence for m in marked if m.divergence)])
    bottom = TOP + PLOT_HEIGHT
    path = _path(thresholds, divergences, axis, height)
    parts = [
        *_grid(height),
        stretched(TOP, PLOT_HEIGHT, ACROSS, path, "curve") if path else "",
        line(0, bottom, 100, bottom, "base"),
        *(_mark(mark, axis, height, row) for row, mark in enumerate(marked)),
        label(0, bottom + 13, "0", anchor="start"),
        label(100, bottom + 13, number(axis.high), anchor="end"),
        label(50, bottom + 13, "threshold on |x|", anchor="middle"),
    ]
    described = "; ".join(
        f"{m.name}: {number(m.at)}"
        + (f", {number(m.divergence)} nats" if m.divergence is not None else ", infinite")
        for m in marked
    )
    return picture(bottom + FOOT, title, described, parts)


class _Log:
    """Nats -> pixels from the top of the plot."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high  # powers of ten

    @classmethod
    def over(cls, values: Sequence[float]) -> _Log:
        logs = [math.log10(max(value, LEAST)) for value in values] or [0.0]
        low, high = min(logs), max(logs)
        spare = max(LEAST_DECADES - (high - low), 0.0) / 2
        return cls(low - spare - 0.08, high + spare + 0.08)

    def at(self, value: float) -> float:
        power = math.log10(max(value, LEAST))
        share = (power - self.low) / (self.high - self.low)
        return PLOT_HEIGHT * (1.0 - min(max(share, 0.0), 1.0))


def _grid(height: _Log) -> list[str]:
    parts = []
    for power in range(math.ceil(height.low), math.floor(height.high) + 1):
        y = TOP + height.at(10.0**power)
        parts += [line(0, y, 100, y, "grid"), label(100, y - 3, f"{10.0**power:g}", anchor="end")]
    return parts


def _path(thresholds: Array, divergences: Array, axis: Axis, height: _Log) -> str:
    """A lone candidate becomes a dot."""
    steps = np.diff(thresholds)
    gap = GAP * float(np.median(steps)) if steps.size else math.inf
    parts, before = [], -math.inf
    for threshold, value in zip(thresholds.tolist(), divergences.tolist(), strict=True):
        if math.isfinite(value):
            place = f"{axis.at(threshold) / 100.0 * ACROSS:.1f} {height.at(value):.1f}"
            parts.append(f"L{place}" if threshold - before <= gap else f"M{place}h0")
            before = threshold
    return "".join(parts)


def _mark(mark: Threshold, axis: Axis, height: _Log, row: int) -> str:
    x = axis.at(mark.at)
    y = TOP + (height.at(mark.divergence) if mark.divergence is not None else 0.0)
    point = dot(x, y, "mark") if mark.divergence is not None else ""
    named = label(x, 9 + 12 * row, mark.name, "name")
    return (
        f'<g class="range {mark.css}">{line(x, 12 + 12 * row, x, TOP + PLOT_HEIGHT, "cut")}'
        f"{point}{named}</g>"
    )
