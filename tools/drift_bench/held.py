"""Frames that hang together -> how often windows without drift alarm, corrected for it and not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.monitor import DriftMonitor
from edgeq.drift.options import DriftOptions
from edgeq.drift.window import Window
from tools.drift_bench.cases import Case
from tools.drift_bench.simulate import draw_reference
from tools.drift_bench.windows import RUN, Frames

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class HeldAlarms:
    """A camera that shows every scene for so many frames."""

    case: str
    reference_frames: int
    window: int
    times: int
    windows: int
    ratio: float
    error: float  # standard error, by reference
    uncorrected_ratio: float  # every frame taken for one of its own


def held_alarms(
    case: Case, references: int, size: int, window: int, times: Sequence[int], seed: int = 3
) -> Iterator[HeldAlarms]:
    """Show each drawn frame several times in a row; look twice at every run."""
    frames = Frames.of(case.frames)
    for count in times:
        draw = np.random.default_rng(seed)
        looks, plain = [], []
        for _ in range(references):
            reference = draw_reference(case, size, draw)
            monitor = DriftMonitor(reference, DriftOptions(window=window))
            alarms = []
            for _ in range(2):
                scenes = draw.integers(0, case.size, RUN * window)
                for place in np.repeat(scenes, count):
                    monitor.add(frames.at(place))
                alarms.append(monitor.check().active)
                last = np.repeat(scenes, count)[-RUN * window :]
                fresh = DriftMonitor(reference, DriftOptions(window=window))
                left = frames.windows(last, window)
                fresh.merge({name: _independent(w) for name, w in left.items()})
                plain.append(fresh.check().active)
            looks.append(np.mean(alarms))
        yield HeldAlarms(
            case=case.name,
            reference_frames=size,
            window=window,
            times=count,
            windows=2 * references,
            ratio=float(np.mean(looks)),
            error=float(np.std(looks, ddof=1) / math.sqrt(references)),
            uncorrected_ratio=float(np.mean(plain)),
        )


def _independent(window: Window) -> Window:
    return replace(window, steps=math.inf)
