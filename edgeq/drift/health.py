"""Live inputs -> what is wrong with a frame as such, whatever it shows.

A frame that is all one value, holds NaN, lies beyond the calibrated range, is the one before once
more, is darker, brighter or flatter than any frame of the reference, or is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import CODES, FrameCounts, Stream
from edgeq.drift.streams import BRIGHTNESS, CONTRAST, SHARPNESS

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

FAULTS = (
    "constant",
    "not_finite",
    "out_of_range",
    "stuck",
    "too_dark",
    "too_bright",
    "low_contrast",
    "noise",
)

NOISE_VALUES = 1 << 14  # of an image; of a larger one every n-th row is looked at
LEAST_BEYOND = 0.01  # of a frame's values: fewer are a lamp in the picture, not a wrong scale
AROUND = 0.1  # of the reference's span: how much darker than its darkest frame is too dark
FLATTER = 0.5  # of the least contrast in the reference
# Neighbouring pixels of pictures differ by 0.1 to 0.5 deviations; where none knows of the other
# they do by 1 (two values) to 1.15 (evenly spread). A checkerboard is no noise, nor a picture.
NOISE = 0.85  # the most of 1,584 photographs was 0.70, their median 0.17 to 0.26
NOISIER = 1.2  # than any frame of the reference


@dataclass(frozen=True)
class Bounds:
    """What one input's frames were like in the reference."""

    stream: Stream
    low: float  # largest share of a frame's values at the lower rail
    high: float
    darkest: float  # of the codes of its brightness: below it a frame is too dark
    brightest: float
    flattest: float  # of the codes of its contrast: below it a frame has too little
    noisiest: float  # gradient over deviation: above it a frame is noise; infinite: no image

    @classmethod
    def of(cls, stream: Stream, reference: DriftReference) -> Bounds:
        """Read them from the frames' counts."""
        counts = reference.counts[stream.name]
        sizes = np.maximum(counts.sum(axis=1), 1)
        low, high = (float((counts[:, rail] / sizes).max(initial=0.0)) for rail in (0, CODES - 1))
        darkest, brightest = _codes(reference, f"{stream.tensor}/{BRIGHTNESS}")
        around = AROUND * (brightest - darkest) if math.isfinite(brightest) else 0.0
        flattest = _flattest(reference, f"{stream.tensor}/{CONTRAST}")
        noisiest = _noisiest(reference, stream.tensor)
        return cls(stream, low, high, darkest - around, brightest + around, flattest, noisiest)


def _codes(reference: DriftReference, name: str) -> tuple[float, float]:
    """Return the least and the largest code of a scalar; infinite where there is none."""
    if name not in reference.counts:
        return -math.inf, math.inf
    seen = np.flatnonzero(reference.counts[name].any(axis=0))
    return float(seen[0]), float(seen[-1])


def _flattest(reference: DriftReference, name: str) -> float:
    """Return the code of half the least contrast."""
    least, _ = _codes(reference, name)
    stream = next((s for s in reference.streams if s.name == name), None)
    if stream is None:
        return -math.inf
    return float(stream.codes(np.asarray(FLATTER * stream.values[int(least)])))


def _noisiest(reference: DriftReference, tensor: str) -> float:
    """Return the bound of gradient over deviation."""
    scalars = {s.name: s for s in reference.streams if s.kind == "scalar" and s.tensor == tensor}
    sharpness, contrast = (scalars.get(f"{tensor}/{word}") for word in (SHARPNESS, CONTRAST))
    if sharpness is None or contrast is None:
        return math.inf
    gradients, deviations = (
        stream.values[reference.counts[stream.name].argmax(axis=1)]
        for stream in (sharpness, contrast)
    )
    ratios = gradients[deviations > 0] / deviations[deviations > 0]
    return max(NOISE, NOISIER * float(ratios.max(initial=0.0)))


def noise_ratio(image: Array) -> float:
    """Return the mean gradient along the rows of [N, H, W, C] over the deviation; 0 for a blank.

    Of the values, not of the scalars' codes: those end where the reference's grid does.
    """
    rows = image[:, :: -(-image.size // NOISE_VALUES)].astype(np.float32)
    deviation = float(rows.std())
    return float(np.abs(np.diff(rows, axis=2)).mean()) / deviation if deviation > 0 else 0.0


@dataclass
class InputHealth:
    """What is known of one input: the frame before, and how often each fault was met."""

    bounds: Bounds
    frames: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    identical_frames: int = 0  # up to now, in a row, that were as the one before
    identical_since: float = 0.0  # when that one came, by the clock of `now`
    _previous: Array | None = None

    def look(self, values: Array, counts: FrameCounts, now: float) -> dict[str, bool]:
        """Say which faults the next frame has; the array is kept until the one after it."""
        low, high = float(values.min()), float(values.max())  # NaN where there is one
        is_finite = math.isfinite(low) and math.isfinite(high)
        bounds = self.bounds
        brightness = _code(counts, f"{bounds.stream.tensor}/{BRIGHTNESS}")
        contrast = _code(counts, f"{bounds.stream.tensor}/{CONTRAST}")
        found = {
            "constant": is_finite and low == high and values.size > 1,
            "not_finite": not is_finite,
            "out_of_range": self._is_beyond(values, low, high),
            "stuck": self._is_as_before(values, now),
            "too_dark": brightness < bounds.darkest,  # False where there is no brightness
            "too_bright": brightness > bounds.brightest,
            "low_contrast": contrast < bounds.flattest,
            "noise": is_finite and self._is_noise(values),
        }
        self.frames += 1
        for fault, applies in found.items():
            self.faults[fault] += applies
        return found

    def _is_beyond(self, values: Array, low: float, high: float) -> bool:
        """Say whether more lies beyond the grid than at its rail in any frame of the reference."""
        if values.dtype.kind != "f":
            return False
        stream, bounds = self.bounds.stream, self.bounds
        half = (stream.hi - stream.lo) / (CODES - 1) / 2
        lower, upper = stream.lo - half, stream.hi + half
        below = 0.0 if low >= lower else float((values < lower).mean())
        above = 0.0 if high <= upper else float((values > upper).mean())
        return below > max(LEAST_BEYOND, bounds.low) or above > max(LEAST_BEYOND, bounds.high)

    def _is_noise(self, values: Array) -> bool:
        return math.isfinite(self.bounds.noisiest) and noise_ratio(values) > self.bounds.noisiest

    def _is_as_before(self, values: Array, now: float) -> bool:
        is_same = self._previous is not None and np.array_equal(self._previous, values)
        if not is_same:
            self.identical_since = now
        self.identical_frames = self.identical_frames + 1 if is_same else 0
        self._previous = values
        return is_same


def _code(counts: FrameCounts, name: str) -> float:
    """Return the code of a scalar; NaN where the frame has none."""
    return float(counts[name].argmax()) if name in counts else math.nan


def healths_of(reference: DriftReference) -> dict[str, InputHealth]:
    """Return a fresh record of every input, by the tensor's name."""
    inputs: Iterable[Stream] = (s for s in reference.streams if s.kind == "input")
    return {s.tensor: InputHealth(Bounds.of(s, reference)) for s in inputs}
