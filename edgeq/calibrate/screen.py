"""Frames -> those that belong together: one glitch, 20 times too bright, must not set the ranges.

A frame is an outlier where the log2 of its largest absolute values lies more than `deviations`
robust standard deviations (1.4826 * MAD) above the median frame: that of the inputs, or the median
over the activations. Both are needed. Measured on frames 20 times too bright: the activations
alone stay at 0.0 deviations in MobileNet and DeepLab (ReLU6 cuts them off) and 0.2 in UltraFace.

One pass, in bounded memory, and the same frames are kept whatever their order: each frame is
counted into the histograms of its tier, a cell of the grid of both logarithms, and the end drops
the tiers of which every frame is an outlier. Where more than MAX_TIERS cells are occupied, the grid
gets coarser by merging.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.archive import merge_histograms
from edgeq.calibrate.histogram import Histogram

Array = npt.NDArray[Any]

# Of the finest grid. With 4, the 64 frames of VWW fill 12 tiers instead of 5, and calibration takes
# a tenth longer. A frame just beyond the limit stays where one just within it shares its cell; one
# 20 times too bright is 4.3 octaves away.
CELLS_PER_OCTAVE = 1
MAX_TIERS = 16
DARKEST_OCTAVE = -149  # the smallest float32 is 2**-149; zero counts as that
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its MAD

Cell = tuple[int, int]  # of the inputs, of the activations


@dataclass(frozen=True)
class Screening:
    """When a frame is an outlier.

    `least_deviation_octaves` keeps near-identical frames from looking scattered: with 5 times 0.4
    nothing is dropped that is less than 4 times brighter than the median frame.
    """

    deviations: float = 5.0
    least_deviation_octaves: float = 0.4
    minimum_frames: int = 8  # with fewer there is no saying what is usual


DEFAULT_SCREENING = Screening()


@dataclass(frozen=True)
class Brightness:
    """log2 of a frame's largest absolute values."""

    inputs: float
    activations: float

    @classmethod
    def of(cls, inputs: Array, activations: Array) -> list[Brightness]:
        """Take the median over each group's absolute maxima [tensors, frames], frame by frame."""
        return [cls(*pair) for pair in zip(_octaves(inputs), _octaves(activations), strict=True)]


def _octaves(magnitudes: Array) -> list[float]:
    if len(magnitudes) == 0:
        return [0.0] * magnitudes.shape[1]
    medians = np.median(magnitudes.astype(np.float64), axis=0).tolist()
    return [max(math.log2(m), DARKEST_OCTAVE) if m > 0 else DARKEST_OCTAVE for m in medians]


@dataclass
class Tier:
    """Frames of about the same brightness, and what they hold together."""

    frames: list[str] = field(default_factory=list)
    octaves: array[float] = field(default_factory=lambda: array("d"))  # two of each frame
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def add(self, frame: str, brightness: Brightness) -> None:
        """Note one more frame."""
        self.frames.append(frame)
        self.octaves.extend((brightness.inputs, brightness.activations))

    def excess(self, medians: Array, limits: Array) -> float:
        """Octaves above the median frame where that is too much for every frame, else 0."""
        above = _pairs(self.octaves).min(axis=0) - medians
        return float(np.where(above > limits, above, 0.0).max())

    def absorb(self, other: Tier) -> None:
        """Take over another tier's frames and counts."""
        self.frames += other.frames
        self.octaves += other.octaves
        self.histograms = merge_histograms([self.histograms, other.histograms])


@dataclass(frozen=True)
class Outlier:
    """A frame left out, and how much brighter than the median frame it is."""

    id: str
    times: float


class Tiers:
    """Accumulates frames by brightness until `separate` says which belong together."""

    def __init__(self) -> None:
        self._tiers: dict[Cell, Tier] = {}
        self._halvings = 0

    @property
    def frames(self) -> int:
        """How many frames were added."""
        return sum(len(tier.frames) for tier in self._tiers.values())

    def place(
        self, frames: Sequence[str], brightnesses: Sequence[Brightness]
    ) -> list[dict[str, Histogram]]:
        """Return the histograms that each frame's values must be added to, before the next call."""
        for frame, brightness in zip(frames, brightnesses, strict=True):
            self._place(frame, brightness)
        return [self._tiers[self._cell(brightness)].histograms for brightness in brightnesses]

    def _place(self, frame: str, brightness: Brightness) -> None:
        cell = self._cell(brightness)
        while len(self._tiers.keys() | {cell}) > MAX_TIERS:
            self._coarsen()
            cell = _coarser(cell)
        self._tiers.setdefault(cell, Tier()).add(frame, brightness)

    def _cell(self, brightness: Brightness) -> Cell:
        inputs, activations = (
            math.floor(octaves * CELLS_PER_OCTAVE) >> self._halvings
            for octaves in (brightness.inputs, brightness.activations)
        )
        return inputs, activations

    def _coarsen(self) -> None:
        self._halvings += 1
        finer, self._tiers = self._tiers, {}
        for cell, tier in finer.items():
            self._tiers.setdefault(_coarser(cell), Tier()).absorb(tier)

    def separate(self, screening: Screening | None) -> tuple[dict[str, Histogram], list[Outlier]]:
        """Return the histograms of the frames that belong together, and the others."""
        if screening is None or self.frames < screening.minimum_frames:
            return merge_histograms(tier.histograms for tier in self._tiers.values()), []
        medians, limits = self._usual(screening)
        excess = [(tier, tier.excess(medians, limits)) for tier in self._tiers.values()]
        outliers = [
            Outlier(frame, 2.0**octaves)
            for tier, octaves in excess
            if octaves > 0
            for frame in tier.frames
        ]
        return merge_histograms(t.histograms for t, octaves in excess if octaves == 0), outliers

    def _usual(self, screening: Screening) -> tuple[Array, Array]:
        """The median frame, and how far above it is too far, in octaves: both of two values."""
        octaves = np.concatenate([_pairs(tier.octaves) for tier in self._tiers.values()])
        medians = np.median(octaves, axis=0)
        deviations = NORMAL_MAD * np.median(np.abs(octaves - medians), axis=0)
        limits = screening.deviations * np.maximum(deviations, screening.least_deviation_octaves)
        return medians, limits


def _pairs(octaves: array[float]) -> Array:
    return np.array(octaves, np.float64).reshape(-1, 2)  # [frames, 2]


def _coarser(cell: Cell) -> Cell:
    return cell[0] >> 1, cell[1] >> 1
