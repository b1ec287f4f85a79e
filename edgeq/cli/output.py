"""Results -> the terminal: text, tables, one JSON object, a progress bar or JSON lines."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Progress = Callable[[str, int, int], None]  # stage, done, total

BAR_WIDTH = 28
REDRAW_S = 0.1  # a terminal need not be told more often


def print_json(result: Any) -> None:
    """Print one JSON object on stdout and nothing else; what is not finite becomes null."""
    print(json.dumps(_finite(result), allow_nan=False, default=str))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def printable(text: str, keep: str = "") -> str:
    """Return the text without what a terminal would obey: names and reasons come from others."""
    return "".join(c if c.isprintable() or c in keep else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns as wide as their content; a terminal gets them cut to its width."""
    cells = [[printable(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    limit = None
    if sys.stdout.isatty():
        limit = max(40, shutil.get_terminal_size((120, 24)).columns)
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip()[:limit])


def no_progress(stage: str, done: int, total: int) -> None:
    """Say nothing."""


class JsonProgress:
    """One JSON line on stderr for each step: what the daemon reads from its build child."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._last = ("", 0.0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report a step; within a stage at most ten lines a second."""
        now = time.monotonic()
        if stage == self._last[0] and done != total and now - self._last[1] < REDRAW_S:
            return
        self._last = (stage, now)
        seconds = round(now - self._started, 3)
        line = {"stage": stage, "done": done, "total": total, "seconds": seconds}
        print(json.dumps(line), file=sys.stderr, flush=True)


class BarProgress:
    """A bar for a person, one line a stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._started = self._drawn = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Draw the step; a new stage starts a new line."""
        now = time.monotonic()
        if stage != self._stage:
            self.finish()
            self._stage, self._started, self._drawn = stage, now, 0.0
        if done == total or now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._draw(done, total, now - self._started)

    def _draw(self, done: int, total: int, seconds: float) -> None:
        filled = BAR_WIDTH * min(done, total) // total if total else 0
        bar = "#" * filled + "." * (BAR_WIDTH - filled) if total else " " * BAR_WIDTH
        count = f"{done}/{total}" if total else ""
        sys.stderr.write(f"\r{self._stage:10s} {bar} {count:>9s} {seconds:6.1f} s\033[K")
        sys.stderr.flush()

    def finish(self) -> None:
        """End the line that is being drawn."""
        if self._stage:
            sys.stderr.write("\n")
        self._stage = ""


@contextlib.contextmanager
def shown_progress(kind: str | None) -> Iterator[Progress]:
    """Yield what `--progress` asks for; without it, a bar where stderr is a terminal."""
    if kind == "json":
        yield JsonProgress()
    elif kind == "bar" or (kind is None and sys.stderr.isatty()):
        bar = BarProgress()
        try:
            yield bar
        finally:
            bar.finish()
    else:
        yield no_progress
