"""Histograms after 16, 32, 64, .. samples -> whether more samples would change the ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS


@dataclass(frozen=True)
class Convergence:
    """When calibration may stop before the last sample.

    The thresholds of `method` are looked at after `first` samples and each time their number has
    doubled; where they changed by at most `tolerance`, relatively and on average over the tensors,
    more samples are not worth their time. 'mse' is the method that is the quickest to ask.
    """

    tolerance: float = 0.05
    first: int = 16
    method: str = "mse"


def is_checkpoint(samples: int, convergence: Convergence) -> bool:
    """True after first, 2 * first, 4 * first, .. samples."""
    doublings, rest = divmod(samples, convergence.first)
    return rest == 0 and doublings & (doublings - 1) == 0


def thresholds(histograms: Mapping[str, Histogram], method: str) -> dict[str, float]:
    """Return the largest absolute value that each tensor's range would hold."""
    ranges = {name: METHODS[method](histogram) for name, histogram in histograms.items()}
    return {name: max(-chosen.lo, chosen.hi, 0.0) for name, chosen in ranges.items()}


def change(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the mean relative change of the thresholds; a tensor not seen before counts as 1."""
    changes = [abs(new - before.get(name, 0.0)) / max(new, before.get(name, 0.0))
               for name, new in after.items() if max(new, before.get(name, 0.0)) > 0]  # fmt: skip
    return float(np.mean(changes)) if changes else 0.0


def groups(ids: Iterable[str], convergence: Convergence) -> Iterator[frozenset[str]]:
    """Yield the ids in parts that end where calibration may stop, the least ones first.

    Given part by part, which samples are used depends on the set alone: ids are hashes of the
    content, so that their order is one at random, but always the same. Within a part any order
    will do.
    """
    ordered, start, end = sorted(ids), 0, convergence.first
    while start < len(ordered):
        yield frozenset(ordered[start:end])
        start, end = end, 2 * end
