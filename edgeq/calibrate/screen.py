"""Frames -> those that belong together: one glitch, 20 times too bright, must not set the ranges.

A frame is an outlier where the log2 of its largest absolute values lies more than `deviations`
robust standard deviations (1.4826 * MAD) above the median frame: that of the inputs, or the median
over the activations. Both are needed. Measured on frames 20 times too bright: the activations
alone stay at 0.0 deviations in MobileNet and DeepLab (ReLU6 cuts them off) and 0.2 in UltraFace.

One pass, in bounded memory, and the same frames are kept whatever their order: each frame is
counted into the histograms of its tier, a cell of the grid of both logarithms, and the end drops
whole tiers. Where more than MAX_TIERS cells are occupied, the grid gets coarser by merging.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.archive import merge_histograms
from edgeq.calibrate.histogram import Histogram

Array = npt.NDArray[Any]

CELLS_PER_OCTAVE = 4  # the finest grid
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
    def of(cls, inputs: Sequence[float], activations: Sequence[float]) -> Brightness:
        """Take the median over each group's absolute maxima."""
        return cls(_octave(inputs), _octave(activations))


def _octave(magnitudes: Sequence[float]) -> float:
    if not magnitudes:
        return 0.0
    median = float(np.median(np.asarray(magnitudes, np.float64)))
    return max(math.log2(median), DARKEST_OCTAVE) if median > 0 else DARKEST_OCTAVE


@dataclass
class Tier:
    """Frames of about the same brightness, and what they hold together."""

    frames: list[str] = field(default_factory=list)
    histograms: dict[str, Histogram] = field(default_factory=dict)

    def absorb(self, other: Tier) -> None:
        """Take over another tier's frames and counts."""
        self.frames += other.frames
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

    def place(self, frame: str, brightness: Brightness) -> dict[str, Histogram]:
        """Return the histograms that the frame's values must be added to."""
        cell = self._cell(brightness)
        while len(self._tiers.keys() | {cell}) > MAX_TIERS:
            self._coarsen()
            cell = _coarser(cell)
        tier = self._tiers.setdefault(cell, Tier())
        tier.frames.append(frame)
        return tier.histograms

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
        excess = self._excess(screening)
        kept = [tier for cell, tier in self._tiers.items() if excess[cell] == 0]
        outliers = [
            Outlier(frame, 2.0 ** excess[cell])
            for cell, tier in self._tiers.items()
            if excess[cell] > 0
            for frame in tier.frames
        ]
        return merge_histograms(tier.histograms for tier in kept), outliers

    def _excess(self, screening: Screening | None) -> dict[Cell, float]:
        """Octaves above the median frame of each tier that is too far above it, else 0."""
        cells = list(self._tiers)
        if screening is None or self.frames < screening.minimum_frames:
            return dict.fromkeys(cells, 0.0)
        octaves = (np.array(cells) + 0.5) * 2**self._halvings / CELLS_PER_OCTAVE  # [tiers, 2]
        weights = [len(tier.frames) for tier in self._tiers.values()]
        by_axis = [_above(octaves[:, axis], weights, screening) for axis in (0, 1)]
        return dict(zip(cells, np.max(by_axis, axis=0).tolist(), strict=True))


def _coarser(cell: Cell) -> Cell:
    return cell[0] >> 1, cell[1] >> 1


def _above(octaves: Array, weights: Sequence[int], screening: Screening) -> Array:
    frames = np.repeat(octaves, weights)
    median = np.median(frames)
    mad = float(np.median(np.abs(frames - median)))
    limit = screening.deviations * max(NORMAL_MAD * mad, screening.least_deviation_octaves)
    above: Array = octaves - median
    return np.where(above > limit, above, 0.0)
