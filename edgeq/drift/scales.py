"""Live inputs -> the range that calibration would choose for them today, over the one in use.

Float inputs are counted as calibration counts them, so the range is the one that its own rule
would choose. Of INT8 activations only the codes are known: a range that became too wide shows in
how many codes hold 99.99 % of the values; one that became too narrow shows as values at the rails,
and by how much it is too narrow cannot be known.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.archive import histograms_from_npz, histograms_to_npz
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.calibrate.table import TensorRange

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

KEPT = 0.9999  # of the values, as the percentile method keeps


class ScaleWatch:
    """The latest one to two windows of live inputs, in calibration's own histograms.

    Histograms add but do not forget, so there are two: when one has a window of frames, it takes
    the place of the one before. `add` and `ratios` may come from two threads.

    Args:
        ranges: of the inputs, as calibrated.
        window: frames.
    """

    def __init__(self, ranges: Mapping[str, TensorRange], window: int) -> None:
        self._ranges = {n: row for n, row in ranges.items() if row.method in METHODS}
        self._window = window
        self._lock = threading.Lock()
        self._frames = 0
        self._newest = self._empty()
        self._before: dict[str, Histogram] = {}

    def _empty(self) -> dict[str, Histogram]:
        return {name: Histogram() for name in self._ranges}

    def add(self, inputs: Arrays) -> None:
        """Count one frame; 70 us at 27,648 values."""
        with self._lock:
            for name, histogram in self._newest.items():
                values = inputs.get(name)
                if values is not None and values.dtype == np.float32:
                    histogram.add(values)
            self._frames += 1
            if self._frames >= self._window:
                self._before, self._newest, self._frames = self._newest, self._empty(), 0

    def ratios(self) -> dict[str, float]:
        """Return the width of the range of today over that in use, of inputs that came."""
        with self._lock:
            parts = [dict(self._before), {n: h.copy() for n, h in self._newest.items()}]
        found = {}
        for name, row in self._ranges.items():
            live = Histogram.sum_of([part[name] for part in parts if name in part])
            if live.count:
                chosen = METHODS[row.method](live)
                found[name] = _ratio(_width(chosen.lo, chosen.hi), _width(row.lo, row.hi))
        return found

    def to_npz(self) -> bytes:
        """Return what `restore` takes."""
        with self._lock:
            parts = {f"1/{n}": h for n, h in self._newest.items()}
            parts |= {f"0/{n}": h for n, h in self._before.items()}
            return histograms_to_npz(parts)

    def restore(self, content: bytes) -> None:
        """Take up what `to_npz` gave; the frames since the last turn count from here.

        Raises:
            CalibrationError: it is damaged.
        """
        parts = histograms_from_npz(content)
        with self._lock:
            for name in self._ranges:
                if f"1/{name}" in parts:
                    self._newest[name] = parts[f"1/{name}"]
                if f"0/{name}" in parts:
                    self._before[name] = parts[f"0/{name}"]


def _width(low: float, high: float) -> float:
    """Return the width of an INT8 range: it always holds 0."""
    return max(high, 0.0) - min(low, 0.0)


def _ratio(live: float, used: float) -> float:
    return live / used if used > 0.0 else 1.0


def width_ratio(live: Array, reference: Array) -> float:
    """Return the codes that 99.99 % of the live values take, over those of the reference."""
    used = _codes_taken(reference)
    return _codes_taken(live) / used if used else 1.0


def _codes_taken(counts: Array) -> int:
    total = float(counts.sum())
    if total <= 0.0:
        return 0
    cumulative = np.cumsum(counts)
    tail = total * (1.0 - KEPT) / 2
    first = int(np.searchsorted(cumulative, tail, side="right"))
    last = int(np.searchsorted(cumulative, total - tail))
    return last - first + 1
