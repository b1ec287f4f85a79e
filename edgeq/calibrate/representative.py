"""What the samples and the float model's scores look like -> doubts that they stand for the rest.

Ranges chosen on noise left 9 % of one classifier's decisions as they were, ranges from one class
clip what only the others need. Nothing is refused: what is unusual for photographs may be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS, Histogram

Array = npt.NDArray[Any]

LEAST_FRAMES = 16  # with fewer, one class or a few alike are no surprise
CONSTANT_SHARE = 0.25
LEAST_SPAN = 1 / 3  # of what a convention allows
OUTSIDE = 0.001  # share of the values on either side that a span leaves out
LEAST_CORRELATION = 0.3
ALIKE = 0.01  # of the values' span: the root mean square difference of two thumbnails
DISTINCT_SHARE = 0.5
ALMOST = 1.05  # resizing may overshoot
NORMALIZED = 8.0  # up to here pixels may have been divided by their standard deviation
BYTES = 260.0


@dataclass(frozen=True)
class SampleWarning:
    """Why the samples may not be representative."""

    kind: str  # 'one class', 'constant', 'dark or flat', 'noise' or 'alike'
    message: str
    hint: str


@dataclass(frozen=True)
class SeenInput:
    """One float input over all frames; the last two are of images only, where one is."""

    name: str
    frames: int
    constant: int  # frames that hold one value only
    thumbnails: Array  # [some frames, values]
    histogram: Histogram
    is_image: bool
    correlations: Array  # [frames], of horizontal neighbours


@dataclass(frozen=True)
class SeenScores:
    """The top-1 class of every frame in one output of probabilities."""

    name: str
    classes: Array  # [frames]


def doubts(inputs: Iterable[SeenInput], scores: Iterable[SeenScores]) -> tuple[SampleWarning, ...]:
    """Return what makes the samples look unrepresentative; nothing for usual ones."""
    found = [warning for seen in inputs for warning in _doubts_of(seen)]
    return (*found, *(warning for seen in scores for warning in _one_class(seen)))


def _doubts_of(seen: SeenInput) -> Iterator[SampleWarning]:
    if seen.constant > CONSTANT_SHARE * seen.frames:
        yield _constant(seen)
    elif _is_noise(seen):
        yield _noise(seen)
    else:
        yield from _flat(seen)
        yield from _alike(seen)


def _constant(seen: SeenInput) -> SampleWarning:
    return SampleWarning(
        "constant",
        f"{seen.constant} of {seen.frames} samples hold one value only in {seen.name!r}",
        "Check what captures the samples: a covered lens, or an input that is not connected?",
    )


def _is_noise(seen: SeenInput) -> bool:
    return seen.correlations.size > 0 and _correlation(seen) < LEAST_CORRELATION


def _correlation(seen: SeenInput) -> float:
    known = seen.correlations[np.isfinite(seen.correlations)]
    return float(np.median(known)) if known.size else 1.0


def _noise(seen: SeenInput) -> SampleWarning:
    return SampleWarning(
        "noise",
        f"neighbouring pixels of {seen.name!r} have a correlation of {_correlation(seen):.2f}; "
        "those of photographs have 0.8 or more",
        "Calibrate with real inputs: ranges chosen on noise do not fit them.",
    )


def _flat(seen: SeenInput) -> Iterator[SampleWarning]:
    convention = _convention(seen.histogram)
    if not seen.is_image or convention is None:
        return
    low, high = _span(seen.histogram)
    share = (high - low) / (convention[1] - convention[0])
    if share < LEAST_SPAN:
        yield SampleWarning(
            "dark or flat",
            f"nearly all values of {seen.name!r} lie within [{low:.3g}, {high:.3g}]; that is "
            f"{share:.0%} of [{convention[0]:g}, {convention[1]:g}], which they seem to be for",
            "Add well-lit samples, and check that they are scaled as the model takes them.",
        )


def _alike(seen: SeenInput) -> Iterator[SampleWarning]:
    count = len(seen.thumbnails)
    if count < LEAST_FRAMES:
        return
    distinct = _distinct(seen.thumbnails, seen.histogram)
    if distinct <= DISTINCT_SHARE * count:
        yield SampleWarning(
            "alike",
            f"of {count} samples of {seen.name!r} only {distinct} are different from the others",
            "Add samples from other times and places: many alike say no more than one.",
        )


def _one_class(seen: SeenScores) -> Iterator[SampleWarning]:
    count = seen.classes.size
    if count >= LEAST_FRAMES and (seen.classes == seen.classes[0]).all():
        yield SampleWarning(
            "one class",
            f"all {count} samples have their highest score at class {seen.classes[0]} "
            f"of {seen.name!r}",
            "Add samples of other classes: what only they need may be clipped.",
        )


def _convention(histogram: Histogram) -> tuple[float, float] | None:
    """Guess what pixels were scaled to: 0..1, -1..1, bytes, centred bytes, or nothing known."""
    low, largest = histogram.min, max(-histogram.min, histogram.max)
    if largest <= ALMOST:
        return (0.0, 1.0) if low >= 1 - ALMOST else (-1.0, 1.0)
    if NORMALIZED < largest <= BYTES:
        return (0.0, 255.0) if low >= 255 - BYTES else (-128.0, 128.0)
    return None


def _span(histogram: Histogram) -> tuple[float, float]:
    """The range without the OUTSIDE share of the values on either side."""
    inside = np.cumsum(histogram.bins)
    places = np.searchsorted(inside, inside[-1] * np.array([OUTSIDE, 1 - OUTSIDE]))
    low, high = ((places + np.array([0, 1]) - BINS) * histogram.width).tolist()
    return max(low, histogram.min), min(high, histogram.max)


def _distinct(thumbnails: Array, histogram: Histogram) -> int:
    """How many thumbnails have none before them that is nearly the same."""
    values = thumbnails.astype(np.float64)
    squares = np.sum(values**2, axis=1)
    distances = squares[:, np.newaxis] + squares - 2 * (values @ values.T)  # [frames, frames]
    span = max(histogram.max - histogram.min, 1e-30)
    alike = distances < values.shape[1] * (ALIKE * span) ** 2
    return int(np.count_nonzero(~np.tril(alike, -1).any(axis=1)))
