"""An INT8 model and frames that are not drift -> the counts that live frames are compared with.

Inputs, outputs and activations are counted as the INT8 model has them: what it was calibrated for
is not what it computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy.typing as npt

from edgeq.drift.activations import Tapped, activation_streams, choose_activations, tensors_of
from edgeq.drift.reference import REFERENCE_FRAMES, DriftReference
from edgeq.drift.stream import FrameCounts, Stream
from edgeq.drift.streams import (
    Grids,
    StreamCounter,
    are_scores,
    class_stream,
    count_scalar,
    grids_of,
    is_index,
    scalar_stream,
)
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.tflite.model import Model

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Item = TypeVar("Item")


ACTIVATION_FRAMES = 128  # whose activations are kept: eight streams of 512 would be 1 MB


@dataclass(frozen=True)
class Frame:
    """What one frame gave, before it is known what range the scalars have."""

    counts: Mapping[str, Array]
    scalars: Mapping[str, float]


@dataclass
class Evenly(Generic[Item]):
    """At most so many of as many items as come: every one, then every second, every fourth."""

    most: int
    stride: int = 1
    kept: dict[int, Item] = field(default_factory=dict)  # by place

    def takes(self, place: int) -> bool:
        """Say whether the item at a place may be kept."""
        return place % self.stride == 0

    def put(self, place: int, item: Item) -> None:
        """Keep an item; where there are too many, let go of every second one."""
        self.kept[place] = item
        while len(self.kept) > self.most:
            self.stride *= 2
            self.kept = {p: i for p, i in self.kept.items() if self.takes(p)}


class Baseline:
    """Runs frames one by one, and keeps what some of them show."""

    def __init__(self, int8: Model, ranges: Grids, threads: int) -> None:
        self._streams = _tensor_streams(int8, ranges)
        self._tapped = _tapped(int8, tensors_of(int8, self._streams), threads)
        self._counter: StreamCounter | None = None
        self._frames: Evenly[Frame] = Evenly(REFERENCE_FRAMES)
        self._activations: Evenly[FrameCounts] = Evenly(ACTIVATION_FRAMES)
        self._seen = 0

    def add(self, inputs: Arrays) -> None:
        """Run a frame, if it is its turn."""
        place, self._seen = self._seen, self._seen + 1
        if not self._frames.takes(place):
            return
        is_counted = self._activations.takes(place)
        try:
            shown = self._tapped.run(inputs, counting=is_counted)
        except (EngineError, InvalidRequestError):
            return  # the build has told of this sample
        if self._counter is None:
            self._streams += _choices(shown.outputs)
            self._counter = StreamCounter(self._streams)
        self._frames.put(place, Frame(*self._counter.measure(inputs, shown.outputs)))
        if is_counted:
            self._activations.put(place, shown.counts)

    def reference(self) -> DriftReference:
        """Return the counts of the frames that were kept."""
        frames, activations = self._frames.kept, self._activations.kept
        scalars = _scalar_streams(frames.values())
        counts = (
            {**frame.counts, **_binned(frame, scalars), **activations.get(place, {})}
            for place, frame in frames.items()
        )
        return DriftReference.from_frames([*self._streams, *scalars.values()], counts)

    def close(self) -> None:
        """Free the interpreter."""
        self._tapped.close()


def _tapped(int8: Model, tensors: Mapping[str, int], threads: int) -> Tapped:
    """Show the activations, or only the outputs where the runtime refuses that."""
    try:
        return Tapped(int8, tensors, threads=threads, with_outputs=True)
    except EngineError:
        if not tensors:
            raise
        return Tapped(int8, {}, threads=threads, with_outputs=True)


def measure_baseline(
    int8: Model, frames: Iterable[Arrays], ranges: Grids, threads: int
) -> DriftReference:
    """Run up to 512 frames through the INT8 model and count what it shows.

    Args:
        int8: the model that is served, by whatever backend.
        frames: inputs that are not drift.
        ranges: of tensors without an INT8 grid of their own, as calibrated.
        threads: of one run.

    Raises:
        EngineError: the runtime refuses the model.
    """
    with contextlib.closing(Baseline(int8, ranges, threads)) as baseline:
        for inputs in frames:
            baseline.add(inputs)
        return baseline.reference()


def _tensor_streams(int8: Model, ranges: Grids) -> list[Stream]:
    """Return the streams of inputs, outputs and activations; a name is there once."""
    inputs, outputs = grids_of(int8, ranges)
    found = [Stream(name, "input", name, *grid) for name, grid in inputs.items()]
    found += [Stream(name, "output", name, *grid) for name, grid in outputs.items()]
    found += activation_streams(int8, choose_activations(int8))
    return list({stream.name: stream for stream in reversed(found)}.values())[::-1]


def _choices(outputs: Arrays) -> list[Stream]:
    """Return a stream of classes for every output that chooses among some."""
    return [class_stream(n) for n, v in outputs.items() if is_index(v) or are_scores(v)]


def _scalar_streams(frames: Iterable[Frame]) -> dict[str, Stream]:
    values: dict[str, list[float]] = {}
    for frame in frames:
        for name, value in frame.scalars.items():
            values.setdefault(name, []).append(value)
    return {name: scalar_stream(name, seen) for name, seen in values.items()}


def _binned(frame: Frame, streams: Mapping[str, Stream]) -> dict[str, Array]:
    return {name: count_scalar(value, streams[name]) for name, value in frame.scalars.items()}
