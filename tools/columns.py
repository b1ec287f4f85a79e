"""Figures and lines -> text in columns, for the tools' tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def shown(value: float | None, places: int, *, scale: float = 1.0, sign: bool = False) -> str:
    """Return a figure with so many places, or nothing where there is none."""
    if value is None:
        return ""
    return f"{value * scale:{'+' if sign else ''}.{places}f}"


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return columns under their header: the first and the last to the left, figures right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    last = len(header) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
