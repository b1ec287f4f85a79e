"""How long it takes to count a frame, to take it in, to look, and to draw the null."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeq.drift.monitor import DriftMonitor
from edgeq.drift.null import measure_null
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import Stream
from edgeq.drift.streams import count_values

VALUES = (1, 96, 96, 3)  # 27,648 of them
FRAMES = 128


@dataclass(frozen=True)
class Costs:
    """CPU time: of other work on the same box it is not."""

    values: int
    count_int8_ms: float  # one tensor
    count_float_ms: float
    add_ms: float  # one tensor's counts into its window
    check_ms: float  # all 16 streams
    save_ms: float
    null_s: float  # 16 streams of 128 frames


def measure_costs() -> Costs:
    """Take the median of many runs; 8 streams are images, 8 single values."""
    draw = np.random.default_rng(0)
    image = Stream("image", "input", "image", 0.0, 255.0)
    values = draw.normal(120, 40, VALUES).astype(np.float32)
    codes = draw.integers(-128, 128, VALUES).astype(np.int8)
    streams = [Stream(f"tensor_{n}", "activation", f"tensor_{n}", 0.0, 1.0) for n in range(8)]
    streams += [Stream(f"scalar_{n}", "scalar", "x", 0.0, 1.0) for n in range(8)]
    frames = [_frame(draw, streams) for _ in range(FRAMES)]
    reference = DriftReference.from_frames(streams, frames)
    monitor = DriftMonitor(reference, DriftOptions())
    for frame in frames:
        monitor.add(frame)
    return Costs(
        values=int(np.prod(VALUES)),
        count_int8_ms=_median_ms(lambda: count_values(codes, image), 200),
        count_float_ms=_median_ms(lambda: count_values(values, image), 200),
        add_ms=_median_ms(lambda: monitor.add(frames[0]), 200) / len(streams),
        check_ms=_median_ms(monitor.check, 20),
        save_ms=_median_ms(monitor.to_npz, 20),
        null_s=_median_ms(lambda: measure_null(streams, reference.counts), 3) / 1e3,
    )


def _frame(draw: np.random.Generator, streams: list[Stream]) -> Mapping[str, np.ndarray]:
    frame = {}
    for stream in streams:
        size = int(np.prod(VALUES)) if stream.has_rails else 1
        codes = np.clip(draw.normal(120, 30, size) + draw.normal(0, 10), 0, 255).astype(np.int64)
        frame[stream.name] = np.bincount(codes, minlength=256).astype(np.int32)
    return frame


def _median_ms(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.thread_time()
        run()
        taken.append(time.thread_time() - started)
    return float(np.median(taken) * 1e3)
