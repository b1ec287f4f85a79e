"""Inputs and scores, batch by batch -> the few figures of them that `representative` judges."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.representative import SampleWarning, SeenInput, SeenScores, doubts

Array = npt.NDArray[Any]

THUMBNAIL = 8  # pixels each way; THUMBNAIL**2 values of other inputs
MOST_THUMBNAILS = 256  # those of the lowest checksums, so that order does not matter
LINES = 8  # of an image, in which neighbours are compared
WAITING = 16  # batches
LEAST_EXTENT = 16  # of an image
CHANNELS = (1, 3, 4)  # of an image
SUM_TOLERANCE = 1e-3


class Survey:
    """Looks at the float inputs and the graph's outputs.

    Args:
        names: of the tensors that are shown, float inputs first.
        inputs: how many of them are inputs.
        outputs: the places of the graph's outputs among them, and their names.
    """

    def __init__(self, names: Sequence[str], inputs: int, outputs: Mapping[int, str]) -> None:
        self._inputs = [_Input(name) for name in names[:inputs]]
        self._scores = [(place, _Scores(name)) for place, name in outputs.items()]

    def add(self, tensors: Sequence[Array], batch: int, frames: int) -> None:
        """Look at the first frames of tensors [batch, ...]."""
        for number, seen in enumerate(self._inputs):
            seen.add(_rows(tensors[number], batch)[:frames], tensors[number].shape[1:])
        for place, scores in self._scores:
            shape = tensors[place].shape or (1,)  # a scalar's is empty
            if tensors[place].size == batch * shape[-1] > batch:  # one vector
                scores.add(_rows(tensors[place], batch)[:frames])

    def warnings(
        self, histograms: Mapping[str, Histogram], constant: Sequence[int]
    ) -> tuple[SampleWarning, ...]:
        """Return what is doubtful.

        Args:
            histograms: of the inputs.
            constant: for each input, how many frames hold one value only.
        """
        inputs = [
            seen.seen(histograms[seen.name], count)
            for seen, count in zip(self._inputs, constant, strict=True)
            if seen.name in histograms
        ]
        for _, scores in self._scores:
            scores.digest()
        return doubts(inputs, [s.seen() for _, s in self._scores if s.classes])


class _Input:
    def __init__(self, name: str) -> None:
        self.name = name
        self._frames, self._is_image = 0, False
        self._grids: list[Array] = []  # wait, [frames, values, channels]
        self._lines: list[Array] = []  # wait, of images [frames, lines, width, channels]
        self._thumbnails: list[tuple[int, Array]] = []
        self._correlations = array("f")

    def add(self, rows: Array, shape: tuple[int, ...]) -> None:
        if self._grids and (is_image(shape) != self._is_image or len(self._grids) >= WAITING):
            self._digest()
        self._frames += len(rows)
        self._is_image = is_image(shape)
        if self._is_image:
            images = rows.reshape(len(rows), *shape)
            self._grids.append(_grid(images))
            self._lines.append(images[:, :: -(-shape[0] // LINES)].copy())
        elif rows.shape[1] > 1:
            self._grids.append(_spread(rows)[:, :, np.newaxis])

    def _digest(self) -> None:
        """Turn what waits into thumbnails and correlations."""
        for grids in _by_shape(self._grids):
            means = grids.mean(axis=2)
            self._thumbnails += [(zlib.crc32(row.tobytes()), row.copy()) for row in means]
        for lines in _by_shape(self._lines):
            self._correlations.extend(_correlations(lines.mean(axis=3)).tolist())
        self._grids, self._lines = [], []
        self._thumbnails.sort(key=lambda pair: (pair[0], pair[1].tobytes()))
        del self._thumbnails[MOST_THUMBNAILS:]

    def seen(self, histogram: Histogram, constant: int) -> SeenInput:
        self._digest()
        sizes = {row.size for _, row in self._thumbnails}
        rows = [row for _, row in self._thumbnails] if len(sizes) == 1 else []
        return SeenInput(
            name=self.name,
            frames=self._frames,
            constant=constant,
            thumbnails=np.array(rows, np.float32),
            histogram=histogram,
            is_image=self._is_image,
            correlations=np.array(self._correlations),
        )


class _Scores:
    def __init__(self, name: str) -> None:
        self.name = name
        self._waiting: list[Array] = []
        self.classes = array("l")

    def add(self, rows: Array) -> None:
        self._waiting.append(rows.copy())
        if len(self._waiting) >= WAITING:
            self.digest()

    def digest(self) -> None:
        """Note the best class of each frame that holds probabilities."""
        waiting, self._waiting = self._waiting, []
        for rows in _by_shape(waiting):
            is_sum_one = np.abs(rows.sum(axis=1) - 1) < SUM_TOLERANCE
            are_scores = is_sum_one & (rows.min(axis=1) >= 0)
            self.classes.extend(rows[are_scores].argmax(axis=1).tolist())

    def seen(self) -> SeenScores:
        return SeenScores(self.name, np.array(self.classes))


def _by_shape(parts: Sequence[Array]) -> Iterator[Array]:
    """Join the parts [frames, ...] whose frames have the same shape."""
    for shape in dict.fromkeys(part.shape[1:] for part in parts):
        yield np.concatenate([part for part in parts if part.shape[1:] == shape])


def is_image(shape: Sequence[int]) -> bool:
    """True for the shape [H, W, C] of pictures, without the batch."""
    return len(shape) == 3 and min(shape[:2]) >= LEAST_EXTENT and shape[2] in CHANNELS


def _rows(tensor: Array, batch: int) -> Array:
    return tensor.reshape(batch, tensor.size // batch)


def _grid(images: Array) -> Array:
    """Single pixels, evenly spread  # [frames, THUMBNAIL**2, channels]."""
    height, width = (extent // THUMBNAIL for extent in images.shape[1:3])
    grid = images[:, height // 2 :: height, width // 2 :: width][:, :THUMBNAIL, :THUMBNAIL]
    return grid.reshape(len(images), -1, images.shape[3])  # a copy


def _spread(rows: Array) -> Array:
    """At most THUMBNAIL**2 values of each row, evenly spread."""
    some: Array = rows[:, :: -(-rows.shape[1] // THUMBNAIL**2)].copy()
    return some


def _correlations(lines: Array) -> Array:
    """Of neighbours in the lines [frames, lines, width]; NaN for a constant frame  # [frames]."""
    centred = lines - lines.mean(axis=(1, 2), keepdims=True)
    left, right = (part.reshape(len(lines), -1) for part in (centred[..., :-1], centred[..., 1:]))
    squares = np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations: Array = np.einsum("ij,ij->i", left, right) / np.sqrt(squares)
    return correlations
