"""Named figures -> one row each: bars from a common start, bars one after the other, dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.observe.charts.marks import (
    Axis,
    dot,
    label,
    line,
    picture,
    rectangle,
    ticks,
)

ROW, BAR = 40, 14
FOOT = 18
LEAST_WIDTH = 0.4  # percent: what took no time is seen too


@dataclass(frozen=True)
class Timed:
    """One engine's latency in milliseconds: half of the runs end by p50, 90 % by p90."""

    name: str
    p50: float
    p90: float
    words: str  # the figures, as text
    is_ours: bool


def latency_picture(rows: Sequence[Timed]) -> str:
    """Draw p50 as bars with a thin tail to p90; p99 is in the words alone, for it dwarfs both."""
    most = max((row.p90 for row in rows), default=0.0)
    axis = Axis.over([0.0, most * 1.02])
    bottom = ROW * len(rows) + 4
    parts = _ruled(axis, bottom, " ms")
    for place, row in enumerate(rows):
        y = ROW * place
        css = "bar-ours" if row.is_ours else "bar-other"
        parts += [
            label(0, y + 15, row.name, "strong", "start"),
            label(100, y + 15, row.words, "axis", "end"),
            rectangle(0, y + 21, axis.at(row.p50), BAR, css),
            rectangle(axis.at(row.p50), y + 26, axis.at(row.p90) - axis.at(row.p50), 4, css),
        ]
    described = "; ".join(f"{row.name}: {row.words}" for row in rows)
    return picture(bottom + FOOT, "Time of one inference", described, parts)


def stages_picture(stages: Sequence[tuple[str, float, str]]) -> str:
    """Draw where a build's time went, each stage behind the one before.

    Args:
        stages: name, seconds, and what it does in a few words; in the order they ran.
    """
    total = sum(seconds for _, seconds, _ in stages)
    axis = Axis.over([0.0, total])
    bottom, start = 30 * len(stages) + 4, 0.0
    parts = _ruled(axis, bottom, " s")
    for place, (name, seconds, words) in enumerate(stages):
        y = 30 * place
        width = max(axis.share(seconds) if total else 0.0, LEAST_WIDTH)
        tip = f"{name}: {seconds:.2f} s, {words}"
        parts += [
            label(0, y + 13, f"{name}: {words}" if words else name, "axis-strong", "start"),
            label(100, y + 13, f"{seconds:.2f} s", "axis", "end"),
            rectangle(min(axis.at(start), 100.0 - width), y + 18, width, 8, "bar-ours", tip),
        ]
        start += seconds
    described = "; ".join(f"{name} {seconds:.2f} s" for name, seconds, _ in stages)
    return picture(bottom + FOOT, f"Where {total:.1f} s of the build went", described, parts)


def _ruled(axis: Axis, bottom: float, unit: str) -> list[str]:
    """Round values along the foot, and lines up from them."""
    parts = []
    for value in ticks(axis.high):
        x = axis.at(value)
        parts += [
            line(x, 0, x, bottom, "grid"),
            label(x, bottom + 13, f"{value:g}{unit if value else ''}",
                  anchor="start" if x < 4 else "end" if x > 92 else "middle"),
        ]  # fmt: skip
    return parts


def dots_picture(rows: Sequence[tuple[str, float, bool]], title: str, unit: str) -> str:
    """Draw one value a row as a dot on an axis that need not start at 0; the chosen one is full.

    Args:
        rows: name, value, and whether it was chosen.
        title: of the picture.
        unit: of the values.
    """
    values = [value for _, value, _ in rows]
    low, high = min(values), max(values)
    spare = max((high - low) * 0.12, 0.05)
    axis = Axis(low - spare, high + spare)
    parts = []
    for place, (name, value, is_chosen) in enumerate(rows):
        y = 34 * place
        css = "strong" if is_chosen else "axis-strong"
        chosen = ", in use" if is_chosen else ""
        parts += [
            label(0, y + 13, f"{name}{chosen}", css, "start"),
            label(100, y + 13, f"{value:.1f} {unit}", css, "end"),
            line(0, y + 24, 100, y + 24, "grid"),
            dot(axis.at(value), y + 24, "mark-full" if is_chosen else "mark-open", 5.5),
        ]
    bottom = 34 * len(rows) + 4
    parts += [
        label(0, bottom + 11, f"{axis.low:.1f}", anchor="start"),
        label(100, bottom + 11, f"{axis.high:.1f} {unit}", anchor="end"),
    ]
    described = "; ".join(f"{name} {value:.2f} {unit}" for name, value, _ in rows)
    return picture(bottom + FOOT, title, described, parts)


def change_picture(before: float, after: float, axis: Axis, words: str) -> str:
    """Draw a change of one value as an arrow's line: an open dot, and a full one where it went."""
    y = 11.0
    a, b = axis.at(before), axis.at(after)
    css = "gain" if after >= before else "loss"
    parts = [
        line(0, y, 100, y, "grid"),
        line(a, y, b, y, css),
        dot(a, y, "mark-open", 4),
        dot(b, y, "mark-full", 4.5),
    ]
    return picture(22, words, "", parts, "change")
