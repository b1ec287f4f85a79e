"""What chance gives by window size, and what matters -> the bounds of one stream at any size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.null import LEAST_FRAMES, ROOT, WINDOWS
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.statistics import Statistic, deciding_statistic

Array = npt.NDArray[Any]

# A share at a rail matters from half as much again as in the reference, and 1 % of the values: more
# zeros after a ReLU are not clipped, and the statistic sees them.
NOTABLE_GROWTH = 1.5
NOTABLE_SATURATION = 0.01
LOG_WINDOWS = np.log(WINDOWS)


@dataclass(frozen=True)
class Bounds:
    """Above which values of the three windows drift."""

    statistic: float
    low: float  # share of values at the lower rail
    high: float


@dataclass(frozen=True)
class Limits:
    """One stream's bounds by window size."""

    statistic: Statistic
    table: Array  # float64 [windows, 3], as the fields of `Bounds`
    floor: Bounds  # what does not matter, whatever chance gives

    def at(self, frames: float) -> Bounds:
        """Interpolate, on logarithms, for an effective window of so many frames."""
        if not np.isfinite(self.table).all():
            return Bounds(math.inf, 1.0, 1.0)
        place = math.log(max(frames, 1.0))
        found = (float(np.exp(np.interp(place, LOG_WINDOWS, np.log(c)))) for c in self.table.T)
        statistic, low, high = found
        return Bounds(
            max(statistic, self.floor.statistic),
            min(1.0, max(low, self.floor.low)),
            min(1.0, max(high, self.floor.high)),
        )


def limits_of(reference: DriftReference, options: DriftOptions) -> dict[str, Limits]:
    """Return the bounds of every stream for the false alarms and the PSI that are asked for."""
    bounds = reference.null.bounds(options.false_alarm_ratio)
    limits = {}
    for number, stream in enumerate(reference.streams):
        statistic = deciding_statistic(stream.kind)
        frames = int(reference.null.frames[number])
        total = reference.counts[stream.name].sum(axis=0, dtype=np.int64)
        rails = total[[0, -1]] / total.sum()
        values = np.maximum(bounds[:, number, 0], 1e-12) ** (1 / ROOT[statistic])
        shares = np.square(np.sqrt(rails) + np.maximum(bounds[:, number, 1:], 1e-9))
        table = np.column_stack([values, shares])
        if frames < LEAST_FRAMES:
            table = np.full_like(table, math.inf)
        missed = NOTABLE_SATURATION + 1.0 / (frames + 1)  # frames like this may just not be there
        ends = NOTABLE_GROWTH * rails + missed if stream.has_rails else np.full(2, 1.0)
        floor = Bounds(practical_floor(statistic, options.psi), float(ends[0]), float(ends[1]))
        limits[stream.name] = Limits(statistic, table, floor)
    return limits


def practical_floor(statistic: Statistic, psi: float) -> float:
    """Return the value of the statistic that is as far as `psi`.

    Where a normal distribution moves by d deviations, PSI is d squared and Wasserstein d; of
    distributions close to each other PSI is 8 times the squared Jensen-Shannon distance.
    """
    if statistic == "wasserstein_ratio":
        return math.sqrt(psi)
    return math.sqrt(psi / 8) if statistic == "js_distance" else psi
