"""Lines, bars, labels and scales -> parts of an SVG that is as wide as its column.

Places across are percent of the picture's width and places down are pixels, so that a picture
fits a phone and a desk alike while its text and lines keep their size. What must be a path is
stretched in a frame of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LETTER = 6.2  # px, the width of a letter of the labels, about
NARROW = 300.0  # px: labels must fit a picture as narrow as this
LONG_NAME = 60  # letters of a tensor's name in a picture's title


def printable(text: str) -> str:
    """Return the text escaped, without what could reorder or hide what stands beside it."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(text, quote=True)


def number(value: float) -> str:
    """Return a number as short as a picture needs it."""
    return f"{value:.4g}"


def short(name: str) -> str:
    """Return the first of the names that a converter strings together when it fuses ops."""
    first = name.split(";")[0] or name
    if len(first) <= LONG_NAME:
        return first
    half = LONG_NAME // 2
    return f"{first[:half]}\N{HORIZONTAL ELLIPSIS}{first[-half:]}"


def picture(height: float, title: str, described: str, parts: Sequence[str], css: str = "") -> str:
    """Return an SVG of this height with its name and, for who cannot see it, what it shows."""
    kind = f' class="{css}"' if css else ""
    return (
        f'<svg{kind} width="100%" height="{_px(height)}" role="img">'
        f"<title>{printable(title)}</title><desc>{printable(described)}</desc>"
        f"{''.join(parts)}</svg>"
    )


def rectangle(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> str:
    """Return a bar; `tip` is what a pointer over it shows."""
    shape = (
        f'<rect class="{css}" x="{_percent(x)}" y="{_px(y)}" width="{_percent(width)}" '
        f'height="{_px(height)}"'
    )
    return f"{shape}><title>{printable(tip)}</title></rect>" if tip else f"{shape}/>"


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a straight line."""
    return (
        f'<line class="{css}" x1="{_percent(x1)}" y1="{_px(y1)}" x2="{_percent(x2)}" '
        f'y2="{_px(y2)}"/>'
    )


def dot(x: float, y: float, css: str, radius: float = 4.5) -> str:
    """Return a dot."""
    return f'<circle class="{css}" cx="{_percent(x)}" cy="{_px(y)}" r="{_px(radius)}"/>'


def label(x: float, y: float, text: str, css: str = "axis", anchor: str = "") -> str:
    """Return a text; by itself it starts, ends or is centered so that it stays in the picture."""
    at, anchor = (x, anchor) if anchor else _kept_inside(x, len(text))
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{css}" x="{_percent(at)}" y="{_px(y)}"{place}>{printable(text)}</text>'


def stretched(y: float, height: float, across: float, path: str, css: str) -> str:
    """Return a path in a frame that reaches from side to side: `across` units wide, px high."""
    return (
        f'<svg x="0" y="{_px(y)}" width="100%" height="{_px(height)}" '
        f'viewBox="0 0 {_px(across)} {_px(height)}" preserveAspectRatio="none">'
        f'<path class="{css}" d="{path}"/></svg>'
    )


def columns_path(heights: Sequence[float], bottom: float) -> str:
    """Return columns one unit wide, side by side, as one closed path."""
    levels = [bottom - round(height, 1) for height in heights]
    steps, before = [], bottom
    for place, level in enumerate(levels):
        if level != before:
            steps.append(f"H{place}V{_px(level)}")
            before = level
    return f"M0 {_px(bottom)}{''.join(steps)}H{len(levels)}V{_px(bottom)}z"


@dataclass(frozen=True)
class Axis:
    """Values -> percent from left to right."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """Return the axis that holds all values, and is never of no width."""
        low, high = min(values), max(values)
        return cls(low, high if high > low else low + (abs(low) or 1.0))

    def at(self, value: float) -> float:
        """Return the place of a value; what lies beyond stands at the end."""
        width = self.high - self.low
        if not math.isfinite(width):  # of float32's whole range
            return 50.0
        return 100.0 * min(max((value - self.low) / width, 0.0), 1.0)

    def share(self, width: float) -> float:
        """Return how many percent a distance takes."""
        return 100.0 * width / (self.high - self.low)


def axis_labels(axis: Axis, y: float) -> list[str]:
    """Return the ends and 0 in numbers; an end so near to 0 that both would overlap is left out."""
    marks = {axis.low: "start", axis.high: "end"}
    near = (axis.high - axis.low) * 0.16
    if axis.low < 0.0 < axis.high:
        marks = {v: anchor for v, anchor in marks.items() if abs(v) > near} | {0.0: "middle"}
    return [
        label(axis.at(v), y, number(v), anchor=_edge(axis.at(v), anchor))
        for v, anchor in marks.items()
    ]


def _edge(place: float, anchor: str) -> str:
    """A 0 at the very end must not be cut."""
    return {0.0: "start", 100.0: "end"}.get(place, anchor)


def ticks(most: float, about: int = 4) -> list[float]:
    """Return round numbers from 0 up to `most`, some `about` of them."""
    if not (math.isfinite(most) and most > 0.0):
        return [0.0]
    raw = most / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [i * step for i in range(int(most / step + 1e-9) + 1)]


def _kept_inside(x: float, letters: int) -> tuple[float, str]:
    reach = 100.0 * letters * LETTER / 2 / NARROW
    if x < reach:
        return min(x, max(0.0, 100.0 - 2 * reach)) if x > reach / 2 else 0.0, "start"
    if x > 100.0 - reach:
        return 100.0, "end"
    return x, "middle"


def _percent(value: float) -> str:
    return f"{_px(value)}%"


def _px(value: float) -> str:
    return f"{round(value, 2):g}"
