"""What a watch has seen <-> the .npz that a restart takes it up from."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.errors import DriftError

FORMAT = 1
HINT = "Nothing is to be done: the windows fill again, and the file is written anew."


@dataclass(frozen=True)
class Kept:
    """Windows, histograms and counts, and which reference they are measured against."""

    reference: str  # hex SHA-256 of its drift.npz
    monitor: bytes
    scales: bytes
    frames: Mapping[str, int]  # by input
    faults: Mapping[str, Mapping[str, int]]  # by input: frames, by fault


def to_npz(kept: Kept) -> bytes:
    """Return the file's content."""
    words = {
        "format": FORMAT,
        "reference": kept.reference,
        "frames": kept.frames,
        "faults": kept.faults,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        words=np.frombuffer(json.dumps(words).encode(), np.uint8),
        monitor=np.frombuffer(kept.monitor, np.uint8),
        scales=np.frombuffer(kept.scales, np.uint8),
    )
    return buffer.getvalue()


def from_npz(content: bytes) -> Kept:
    """Read what `to_npz` wrote.

    Raises:
        DriftError: it is damaged, or of a newer format.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            words = json.loads(archive["words"].tobytes())
            if words["format"] != FORMAT:
                raise ValueError(f"its format is {words['format']!r}, not {FORMAT}")
            return Kept(
                reference=str(words["reference"]),
                monitor=archive["monitor"].tobytes(),
                scales=archive["scales"].tobytes(),
                frames={str(name): int(count) for name, count in words["frames"].items()},
                faults={
                    str(name): {str(fault): int(count) for fault, count in counts.items()}
                    for name, counts in words["faults"].items()
                },
            )
    except Exception as error:  # zipfile, zlib, numpy and json each raise their own
        raise DriftError(f"the kept drift windows are damaged: {error}", hint=HINT) from error
