"""How often each INT8 code is used by one mapping and by another -> both, back to back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.observe.charts.marks import columns_path, label, line, picture, stretched

Array = npt.NDArray[Any]

HALF, GAP, HEAD = 82, 1, 18
TOGETHER = 2  # codes a column
CODES = 256


def codes_picture(above: Array, below: Array, names: tuple[str, str], title: str) -> str:
    """Draw the counts of the 256 codes on a log axis: one mapping upwards, the other down.

    Args:
        above: counts of codes -128 to 127, not rounded.
        below: the same values by the other mapping.
        names: of the two mappings.
        title: of the picture.
    """
    columns = [_columns(counts) for counts in (above, below)]
    peak = max(1.0, *(float(each.max()) for each in columns))
    middle = HEAD + HALF
    up, down = ((each / peak * HALF).tolist() for each in columns)
    bottom = middle + GAP + HALF
    parts = [
        stretched(HEAD, HALF, CODES / TOGETHER, columns_path(up, HALF), "codes-max"),
        stretched(middle + GAP, HALF, CODES / TOGETHER, _hanging(down), "codes-used"),
        line(0, middle, 100, middle, "base"),
        label(0, 10, names[0], "name c4", anchor="start"),
        label(0, bottom + 12, names[1], "name c5", anchor="start"),
        label(100, 10, "codes \N{MINUS SIGN}128 to 127", anchor="end"),
    ]
    return picture(bottom + 18, title, f"above {names[0]}, below {names[1]}", parts)


def _columns(counts: Array) -> Array:
    """Log heights; what is less than one value is none."""
    summed = counts.reshape(-1, TOGETHER).sum(axis=1)
    heights: Array = np.where(summed >= 0.5, np.log10(np.maximum(summed, 1.0)) + 0.3, 0.0)
    return heights


def _hanging(heights: list[float]) -> str:
    """Columns that hang from the top."""
    path, before = ["M0 0"], 0.0
    for place, height in enumerate(heights):
        level = round(height, 1)
        if level != before:
            path.append(f"H{place}V{level:g}")
            before = level
    return f"{''.join(path)}H{len(heights)}V0z"
