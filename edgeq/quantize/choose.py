"""Tables by several methods + a measurement -> one table, each tensor by what serves it best.

It starts from the best whole table and tries, tensor by tensor, the ranges of the other methods,
those that differ most first. What does not gain surely is not kept: a few samples show gains that
other samples do not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.quantize.noise import Noise

Measure = Callable[[CalibrationTable], Noise]

AUTO = "auto"
MOST_TRIALS = 12
LEAST_GAIN_DB = 0.1
LEAST_SURENESS = 1.65  # standard errors
LEAST_DIFFERENCE = 0.01  # of the wider range; closer ones are the same


@dataclass(frozen=True)
class Trial:
    """Some tensors by another method's ranges, all others as they were then."""

    method: str
    tensors: tuple[str, ...]
    sqnr_db: float  # of the whole model
    kept: bool


@dataclass(frozen=True)
class Choice:
    """The table that was found, and everything that was measured on the way."""

    table: CalibrationTable  # its method is AUTO where tensors took ranges of another
    sqnr_db: float
    scores: Mapping[str, float]  # SQNR in dB by method, all tensors by the same
    trials: tuple[Trial, ...]


def choose_ranges(
    tables: Mapping[str, CalibrationTable],
    measure: Measure,
    *,
    most_trials: int = MOST_TRIALS,
    least_gain_db: float = LEAST_GAIN_DB,
) -> Choice:
    """Return the ranges with the least noise that few measurements can find.

    Args:
        tables: by method, in order of preference, of the same tensors.
        measure: the noise of the model that a table makes, always on the same samples.
        most_trials: measurements at most, beside one a table.
        least_gain_db: what a trial must gain to be kept.
    """
    noises = {method: measure(table) for method, table in tables.items()}
    scores = {method: noise.sqnr_db for method, noise in noises.items()}
    best = max(scores, key=lambda method: scores[method])
    table, noise, trials = tables[best], noises[best], []
    for method, tensor, row in _candidates(tables, best, most_trials):
        other = replace(table, tensors={**table.tensors, tensor: row}, method=AUTO)
        found = measure(other)
        kept = _gains(noise, found, least_gain_db)
        trials.append(Trial(method, (tensor,), found.sqnr_db, kept))
        if kept:
            table, noise = other, found
    return Choice(table, noise.sqnr_db, scores, tuple(trials))


def _candidates(
    tables: Mapping[str, CalibrationTable], best: str, most: int
) -> list[tuple[str, str, TensorRange]]:
    """Return (method, tensor, range) for the ranges that differ most from those of `best`."""
    found = []
    for position, (tensor, start) in enumerate(tables[best].tensors.items()):
        seen = [start]
        for order, (method, table) in enumerate(tables.items()):
            row = table.tensors[tensor]
            if min(_difference(row, other) for other in seen) > LEAST_DIFFERENCE:
                seen.append(row)
                found.append((-_difference(row, start), position, order, method, tensor, row))
    return [(method, tensor, row) for *_, method, tensor, row in sorted(found)[:most]]


def _difference(first: TensorRange, second: TensorRange) -> float:
    """Return how far the ends are apart, as a share of the wider range."""
    width = max(first.hi - first.lo, second.hi - second.lo)
    apart = abs(first.hi - second.hi) + abs(first.lo - second.lo)
    return apart / width if apart else 0.0


def _gains(before: Noise, after: Noise, least_gain_db: float) -> bool:
    """True where the noise falls enough, and on so many samples that it is no accident.

    The samples are the same before and after, so that their differences are what counts: their
    mean must be LEAST_SURENESS standard errors above 0. One sample alone proves nothing.
    """
    if after.sqnr_db < before.sqnr_db + least_gain_db:
        return False
    falls = before.shares[before.worst] - after.shares[before.worst]
    if falls.size < 2 or not np.isfinite(falls).all():
        return bool(falls.size > 1)  # from infinite noise to finite is a gain
    error = float(falls.std(ddof=1)) / math.sqrt(falls.size)
    return float(falls.mean()) >= LEAST_SURENESS * error
