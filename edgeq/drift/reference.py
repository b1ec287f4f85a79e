"""Counts of the calibration frames -> what live frames are compared with: `drift.npz`."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgeq.drift.null import Null, measure_null
from edgeq.drift.stream import CODES, FrameCounts, Stream, StreamKind
from edgeq.errors import DriftError

Array = npt.NDArray[Any]

REFERENCE_FRAMES = 512
FORMAT = 1
NULL_FIELDS = ("frames", "center", "spread", "level", "excess")


@dataclass(frozen=True)
class DriftReference:
    """The streams of a model, their counts over the calibration frames, and what chance gives."""

    streams: tuple[Stream, ...]
    counts: Mapping[str, Array]  # int32 [frames, 256]; a row of zeros where a frame lacks a stream
    null: Null

    @classmethod
    def from_frames(
        cls, streams: Sequence[Stream], frames: Iterable[FrameCounts]
    ) -> DriftReference:
        """Keep up to 512 frames' counts of every stream that occurs in them."""
        kept = list(itertools.islice(frames, REFERENCE_FRAMES))
        present = tuple(s for s in streams if any(s.name in f and f[s.name].any() for f in kept))
        absent = np.zeros(CODES, np.int32)
        counts = {
            stream.name: np.stack([np.asarray(f.get(stream.name, absent), np.int32) for f in kept])
            for stream in present
        }
        return cls(present, counts, measure_null(present, counts))

    @property
    def digest(self) -> str:
        """What windows of live frames are kept under."""
        digest = hashlib.sha256(repr(self.streams).encode())
        for stream in self.streams:
            digest.update(self.counts[stream.name].sum(axis=0, dtype="<i8").tobytes())
        return digest.hexdigest()

    def to_npz(self) -> bytes:
        """Return the file's content."""
        arrays: dict[str, Any] = {
            "format": np.int64(FORMAT),
            "names": np.array([s.name for s in self.streams], np.str_),
            "kinds": np.array([s.kind for s in self.streams], np.str_),
            "tensors": np.array([s.tensor for s in self.streams], np.str_),
            "ranges": np.array([(s.lo, s.hi) for s in self.streams], np.float64).reshape(-1, 2),
        }
        for number, stream in enumerate(self.streams):
            arrays[f"counts_{number}"] = self.counts[stream.name]
        for name in NULL_FIELDS:
            arrays[f"null_{name}"] = getattr(self.null, name)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> DriftReference:
        """Read what `to_npz` wrote.

        Raises:
            DriftError: it is damaged, or was written by another version of edgeq.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                if "format" not in arrays or int(arrays["format"]) != FORMAT:
                    raise ValueError("it was written by another version of edgeq")
                streams = tuple(_streams(arrays))
                counts = {s.name: arrays[f"counts_{n}"] for n, s in enumerate(streams)}
                null = Null(*(arrays[f"null_{name}"] for name in NULL_FIELDS))
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise DriftError(
                f"the drift reference cannot be read: {error}",
                hint="Run `edgeq recalibrate NAME`: a build writes the reference anew.",
            ) from error
        return cls(streams, counts, null)


def _streams(arrays: Mapping[str, Array]) -> Iterable[Stream]:
    rows = zip(arrays["names"], arrays["kinds"], arrays["tensors"], arrays["ranges"], strict=True)
    for name, kind, tensor, (lo, hi) in rows:
        yield Stream(str(name), cast(StreamKind, str(kind)), str(tensor), float(lo), float(hi))
