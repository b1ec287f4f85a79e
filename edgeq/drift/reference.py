"""Counts of the calibration frames -> what live frames are compared with: `drift.npz`."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.stream import CODES, FrameCounts, Stream

Array = npt.NDArray[Any]

REFERENCE_FRAMES = 512


@dataclass(frozen=True)
class DriftReference:
    """The streams of a model, and their counts over the calibration frames."""

    streams: tuple[Stream, ...]
    counts: Mapping[str, Array]  # int32 [frames, 256]; a row of zeros where a frame lacks a stream

    @classmethod
    def from_frames(
        cls, streams: Sequence[Stream], frames: Iterable[FrameCounts]
    ) -> DriftReference:
        """Keep up to 512 frames' counts."""
        kept = list(itertools.islice(frames, REFERENCE_FRAMES))
        absent = np.zeros(CODES, np.int32)
        counts = {
            stream.name: np.stack([f.get(stream.name, absent) for f in kept]).astype(np.int32)
            for stream in streams
            if any(stream.name in frame for frame in kept)
        }
        return cls(tuple(s for s in streams if s.name in counts), counts)

    def to_npz(self) -> bytes:
        """Return the file's content."""
        arrays: dict[str, Any] = {
            "names": np.array([s.name for s in self.streams], np.str_),
            "kinds": np.array([s.kind for s in self.streams], np.str_),
            "tensors": np.array([s.tensor for s in self.streams], np.str_),
            "ranges": np.array([(s.lo, s.hi) for s in self.streams], np.float64).reshape(-1, 2),
        }
        for number, stream in enumerate(self.streams):
            arrays[f"counts_{number}"] = self.counts[stream.name]
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> DriftReference:
        """Read what `to_npz` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            rows = zip(
                arrays["names"], arrays["kinds"], arrays["tensors"], arrays["ranges"], strict=True
            )
            streams = tuple(
                Stream(str(name), str(kind), str(tensor), float(lo), float(hi))  # type: ignore[arg-type]
                for name, kind, tensor, (lo, hi) in rows
            )
            return cls(streams, {s.name: arrays[f"counts_{n}"] for n, s in enumerate(streams)})
