"""What a model showed, frame by frame -> counts, many frames at once.

Adding one frame to a histogram touches all its bins: for VWW's 31 tensors 1 MB a frame, as much as
its activations. So the values wait, thinned, until there are enough frames.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.binning import Binner
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.screen import Brightness, Tiers
from edgeq.calibrate.thinning import Thinning
from edgeq.calibrate.twins import Twin

Array = npt.NDArray[Any]

MAX_FRAMES = 64
MAX_BYTES = 8 << 20  # of the values that wait
LEAST_TOLD = 1 << 15  # of a smaller tensor the minimum is found as fast as guessed


@dataclass(frozen=True)
class Dropped:
    """A sample that was not used, and why."""

    id: str
    reason: str


class Gathering:
    """Frames that wait to be counted, and the tiers that they are counted into.

    Args:
        names: of the tensors that are shown, float inputs first.
        inputs: how many of them are inputs.
        varying: which of them depend on the inputs.
        rectified: which of them are never below zero.
        twins: name -> whose values it holds; what is around them is counted here.
    """

    def __init__(
        self,
        names: Sequence[str],
        inputs: int,
        varying: Container[str],
        rectified: Container[str],
        twins: Mapping[str, tuple[str, Twin]],
    ) -> None:
        self._names, self._inputs = names, inputs
        self._judged = [i for i, n in enumerate(names) if i >= inputs and n in varying]
        self._is_rectified = [name in rectified for name in names]
        self._padded = [(n, names.index(s), t) for n, (s, t) in twins.items() if t.padding]
        self._binner = Binner()
        self._ids: list[str] = []
        self._room = 0
        self._shapes: list[tuple[int, ...]] = []
        self.tiers = Tiers()
        self.constant = np.zeros(inputs, np.int64)  # frames that hold one value only, by input
        self.dropped: list[Dropped] = []

    def add(self, ids: Sequence[str], tensors: Sequence[Array], batch: int) -> None:
        """Take the first frames of tensors [batch, ...], one for each id."""
        shapes = [(1, *t.shape[1:]) if batch > 1 else t.shape for t in tensors]
        if shapes != self._shapes or len(self._ids) + len(ids) > self._room:
            self.flush()
        if shapes != self._shapes:
            self._make_room(shapes, batch)
        taken = slice(len(self._ids), len(self._ids) + len(ids))
        for i, tensor in enumerate(tensors):
            if tensor.size:
                rows = tensor.reshape(batch, -1)
                self._take(i, rows if len(ids) == batch else rows[: len(ids)], taken)
        self._ids += ids

    def _take(self, i: int, rows: Array, taken: slice) -> None:
        """Note a tensor's extrema, and keep some of its values.

        A few values of a ReLU's output mostly tell that its minimum is 0; NaN is the maximum too.
        """
        counted, low = self._values[i][taken], self._lows[i, taken]
        counted[...] = self._thinnings[i].of(rows)
        np.maximum.reduce(rows, axis=1, out=self._highs[i, taken])
        if len(rows) == 1 and self._is_told[i] and np.minimum.reduce(counted, axis=None) == 0:
            low[0] = 0
        else:
            np.minimum.reduce(rows, axis=1, out=low)

    def _make_room(self, shapes: list[tuple[int, ...]], batch: int) -> None:
        sizes = [math.prod(shape) for shape in shapes]
        self._thinnings = [Thinning.to(size) for size in sizes]
        frame_bytes = 4 * sum(thinning.kept for thinning in self._thinnings)
        self._room = max(batch, min(MAX_FRAMES, MAX_BYTES // max(1, frame_bytes)))
        self._values = [np.empty((self._room, *t.shape), np.float32) for t in self._thinnings]
        self._lows = np.full((len(sizes), self._room), math.inf, np.float32)  # of an empty tensor
        self._highs = -self._lows
        self._is_told = [
            is_rectified and size >= LEAST_TOLD
            for is_rectified, size in zip(self._is_rectified, sizes, strict=True)
        ]
        self._shapes, self._sizes = shapes, sizes

    def flush(self) -> None:
        """Count the frames that wait; one with NaN or infinity is dropped whole."""
        ids, self._ids = self._ids, []
        if not ids:
            return
        lows, highs = self._lows[:, : len(ids)] + 0, self._highs[:, : len(ids)] + 0  # never -0.0
        self.constant += (lows == highs)[: self._inputs].sum(axis=1)
        magnitudes = np.maximum(-lows, highs)  # [tensors, frames]
        bad = ~np.isfinite(magnitudes) & (magnitudes != -math.inf)
        if not bad.any():
            self._count(ids, slice(len(ids)), lows, highs)
            return
        usable = np.flatnonzero(~bad.any(axis=0))
        for frame in np.flatnonzero(bad.any(axis=0)).tolist():
            name = self._names[int(bad[:, frame].argmax())]
            self.dropped.append(Dropped(ids[frame], f"activation {name!r} holds NaN or infinity"))
        if usable.size:
            self._count([ids[i] for i in usable], usable, lows[:, usable], highs[:, usable])

    def _count(self, ids: list[str], frames: slice | Array, lows: Array, highs: Array) -> None:
        magnitudes = np.maximum(-lows, highs)
        judged = [i for i in self._judged if self._sizes[i]]
        brightness = Brightness.of(magnitudes[: self._inputs], magnitudes[judged])
        groups = _groups(self.tiers.place(ids, brightness))
        owners = np.zeros(len(ids), np.intp)
        for number, (_, own) in enumerate(groups):
            owners[own] = number
        covering = [
            self._covering(tier, lows[:, own].min(axis=1), highs[:, own].max(axis=1))
            for tier, own in groups
        ]
        signed = (lows.min(axis=1) < 0).tolist()
        for i in np.flatnonzero(self._sizes).tolist():
            histograms = [own[i] for own in covering]
            self._binner.count(histograms, owners, self._values[i][frames], is_signed=signed[i])
        for tier, own in groups:
            self._count_padding(tier, len(own))

    def _covering(self, tier: dict[str, Histogram], lows: Array, highs: Array) -> list[Histogram]:
        """The tier's histograms of the tensors, wide enough."""
        histograms = [_histogram(tier, name) for name in self._names]
        for histogram, low, high in zip(histograms, lows.tolist(), highs.tolist(), strict=True):
            if low < histogram.min or high > histogram.max:
                histogram.cover(low, high)
        return histograms

    def _count_padding(self, tier: dict[str, Histogram], frames: int) -> None:
        """The zeros around a twin's source; thinned as it was."""
        for name, source, twin in self._padded:
            if self._sizes[source]:
                zeros = twin.zeros(self._shapes[source])
                counted = zeros * self._thinnings[source].kept // self._sizes[source]
                _histogram(tier, name).add_zeros(frames * counted)


def _groups(tiers: Sequence[dict[str, Histogram]]) -> list[tuple[dict[str, Histogram], list[int]]]:
    """Each tier once, with the numbers of its frames."""
    groups: dict[int, tuple[dict[str, Histogram], list[int]]] = {}
    for frame, tier in enumerate(tiers):
        groups.setdefault(id(tier), (tier, []))[1].append(frame)
    return list(groups.values())


def _histogram(tier: dict[str, Histogram], name: str) -> Histogram:
    if name not in tier:
        tier[name] = Histogram()
    return tier[name]
