"""Frames of a made-up camera: counted streams that the tests of drift share."""

from __future__ import annotations

import numpy as np

from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import FrameCounts, Stream

IMAGE = Stream("image", "input", "image", 0.0, 255.0)
BRIGHTNESS = Stream("image/brightness", "scalar", "image", 0.0, 255.0)
CLASSES = Stream("probs/class", "classes", "probs", 0.0, 255.0)
STREAMS = (IMAGE, BRIGHTNESS, CLASSES)
PIXELS = 256


def frame_of(draw: np.random.Generator, *, gain: float = 1.0, classes: int = 4) -> FrameCounts:
    """One frame: brightness and contrast differ from frame to frame, as those of a camera do."""
    pixels = gain * (draw.normal(0, draw.uniform(20, 40), PIXELS) + draw.normal(120, 20))
    codes = IMAGE.codes(pixels)
    return {
        "image": np.bincount(codes, minlength=256).astype(np.int32),
        "image/brightness": counted(int(BRIGHTNESS.codes(pixels.mean()))),
        "probs/class": counted(int(draw.integers(0, classes))),
    }


def frames_of(draw: np.random.Generator, count: int, **drift: float) -> list[FrameCounts]:
    return [frame_of(draw, **drift) for _ in range(count)]  # type: ignore[arg-type]


def counted(code: int) -> np.ndarray:
    counts = np.zeros(256, np.int32)
    counts[code] = 1
    return counts


def reference_of(count: int, seed: int = 0) -> DriftReference:
    return DriftReference.from_frames(STREAMS, frames_of(np.random.default_rng(seed), count))
