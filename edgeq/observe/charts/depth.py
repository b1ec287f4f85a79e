"""Layers in the order of execution -> how far each is from float, what noise starts there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.observe.charts.marks import label, line, picture, rectangle, ticks

TOP, PLOT, GAP, NOISE = 34, 150, 28, 70
ACROSS = 0.93  # of the width; to the right stand the scales
MOST_DB, LEAST_MOST_DB = 60.0, 20.0
MOST_TIPS = 200  # layers; with more the words of each would outweigh the page
SHARE_OF_STEP = 0.78  # of a layer's width, its bar


@dataclass(frozen=True)
class Depth:
    """One layer; `rank` is its place among the worst, 0 for the others."""

    words: str
    sqnr_db: float
    share: float
    rank: int


def depth_picture(layers: Sequence[Depth]) -> str:
    """Draw the SQNR of each layer upwards, and its share of the outputs' noise below.

    What is above 60 dB is drawn as 60: nobody sees the difference.
    """
    most_db = min(MOST_DB, max(LEAST_MOST_DB, *(each.sqnr_db for each in layers)))
    most_share = max(0.01, *(each.share for each in layers))
    base, below = TOP + PLOT, TOP + PLOT + GAP
    bottom = below + NOISE
    parts = [
        *_grid(most_db, base),
        *(_bar(i, each, len(layers), most_db, most_share) for i, each in enumerate(layers)),
        line(0, base, 100, base, "base"),
        line(0, below, 100, below, "base"),
        label(0, 11, "SQNR of each layer, dB", "axis-strong", "start"),
        label(0, below - 7, "share of the outputs' noise that starts there", "axis-strong",
              "start"),
        label(100, bottom, f"{most_share:.0%}", anchor="end"),
        label(0, bottom + 14, "input", anchor="start"),
        label(100 * ACROSS, bottom + 14, "output", anchor="end"),
    ]  # fmt: skip
    worst = sorted((each for each in layers if each.rank), key=lambda each: each.rank)
    described = "; ".join(f"{each.rank}: {each.words}" for each in worst)
    title = f"{len(layers)} layers from input to output"
    return picture(bottom + 18, title, described, parts, "depth")


def _grid(most_db: float, base: float) -> list[str]:
    parts = []
    for value in ticks(most_db, 3)[1:]:
        y = base - value / most_db * PLOT
        parts += [
            line(0, y, 100, y, "grid"),
            label(100, y - 3, f"{value:g}", anchor="end"),
        ]
    return parts


def _bar(place: int, layer: Depth, layers: int, most_db: float, most_share: float) -> str:
    step = 100.0 * ACROSS / layers
    x, width = place * step + step * (1 - SHARE_OF_STEP) / 2, step * SHARE_OF_STEP
    height = min(max(layer.sqnr_db, 0.0), most_db) / most_db * PLOT
    noise = min(max(layer.share, 0.0), most_share) / most_share * NOISE
    tip = layer.words if layers <= MOST_TIPS else ""
    css = "bar-worst" if layer.rank else "bar-other"
    below = TOP + PLOT + GAP
    rank = (
        label(x + width / 2, TOP + PLOT - height - 4, str(layer.rank), "rank", "middle")
        if layer.rank
        else ""
    )
    return (
        rectangle(x, TOP + PLOT - height, width, max(height, 0.5), css, tip)
        + rectangle(x, below, width, max(noise, 0.5), css, tip)
        + rank
    )
