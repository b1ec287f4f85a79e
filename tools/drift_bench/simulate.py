"""Counted frames -> how often windows without drift alarm, and how soon drift is found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.monitor import DriftMonitor
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import Stream
from edgeq.drift.window import Window
from tools.drift_bench.cases import Case
from tools.drift_bench.windows import RUN, Frames

Array = npt.NDArray[Any]

NO_FLOOR = 1e-9  # PSI: then chance alone decides what alarms
LOOK_EVERY = 5  # frames
LONGEST = 1000  # frames after which drift counts as not found
STUCK, MIX = "stuck camera", "class mix"


@dataclass(frozen=True)
class FalseAlarms:
    """Windows without drift that alarmed."""

    case: str
    reference_frames: int
    window: int
    windows: int
    ratio: float  # as configured by default
    error: float  # standard error, by reference
    bare_ratio: float  # where every PSI over chance's counts, however small
    bare_error: float


@dataclass(frozen=True)
class Detection:
    """Frames of drift until the alarm."""

    case: str
    reference_frames: int
    window: int
    drift: str
    runs: int
    found_ratio: float
    median: float | None  # frames; None: not found in most runs
    p90: float | None
    reason: str  # of the first run


def draw_reference(case: Case, size: int, draw: np.random.Generator) -> DriftReference:
    """Return a reference of frames drawn with replacement: all frames are the population."""
    places = draw.integers(0, case.size, size)
    frames = ({name: rows[place] for name, rows in case.frames.items()} for place in places)
    return DriftReference.from_frames(case.streams, frames)


def false_alarms(
    case: Case, references: int, size: int, windows: Sequence[int], each: int, seed: int = 0
) -> Iterator[FalseAlarms]:
    """Draw references of `size` frames, and for each so many windows of every length."""
    draw, frames = np.random.default_rng(seed), Frames.of(case.frames)
    alarms = np.zeros((2, len(windows), references))
    for column in range(references):
        reference = draw_reference(case, size, draw)
        for row, window in enumerate(windows):
            runs = [draw.integers(0, frames.size, RUN * window) for _ in range(each)]
            left = [frames.windows(run, window) for run in runs]
            for kind, psi in enumerate((DriftOptions().psi, NO_FLOOR)):
                monitor = DriftMonitor(reference, DriftOptions(window=window, psi=psi))
                alarms[kind, row, column] = np.mean([_alarms(monitor, w) for w in left])
    for row, window in enumerate(windows):
        ratio, bare = alarms[:, row].mean(axis=1)
        error, bare_error = alarms[:, row].std(axis=1, ddof=1) / math.sqrt(references)
        total = references * each
        figures = map(float, (ratio, error, bare, bare_error))
        yield FalseAlarms(case.name, size, window, total, *figures)


def _alarms(monitor: DriftMonitor, windows: Mapping[str, Window]) -> bool:
    empty = monitor.to_npz()
    monitor.merge(windows)
    active = monitor.check().active
    monitor.restore(empty)
    return active


def detections(case: Case, runs: int, size: int, window: int, seed: int = 1) -> Iterator[Detection]:
    """Let frames drift after a window without drift, for every kind of drift."""
    for drift in (*case.drifted, MIX, STUCK):
        draw = np.random.default_rng(seed)
        found = [_detection(case, drift, size, window, draw) for _ in range(runs)]
        counts = [frames for frames, _ in found]
        yield Detection(
            case=case.name,
            reference_frames=size,
            window=window,
            drift=drift,
            runs=runs,
            found_ratio=float(np.mean(np.isfinite(counts))),
            median=_finite(np.median(counts)),
            p90=_finite(np.quantile(counts, 0.9, method="higher")),
            reason=found[0][1],
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _detection(
    case: Case, drift: str, size: int, window: int, draw: np.random.Generator
) -> tuple[float, str]:
    frames, source = Frames.of(case.frames), Frames.of(case.drifted.get(drift, case.frames))
    monitor = DriftMonitor(draw_reference(case, size, draw), DriftOptions(window=window))
    monitor.merge(frames.windows(draw.integers(0, case.size, RUN * window), window))
    for _ in range(window):
        monitor.add_health({f"{case.input}/stuck": False})
    places = _places(case, drift, draw)
    previous = -1
    for count, place in enumerate(places, start=1):
        monitor.add(source.at(place))
        monitor.add_health({f"{case.input}/stuck": bool(place == previous)})
        previous = place
        if count % LOOK_EVERY == 0 and (state := monitor.check()).active:
            return count, state.reason
    return math.inf, ""


def _places(case: Case, drift: str, draw: np.random.Generator) -> Array:
    if drift == STUCK:
        return np.full(LONGEST, draw.integers(0, case.size))
    if drift == MIX:  # the first half of the classes alone
        half = np.flatnonzero(case.labels < (case.labels.max() + 1) / 2)
        return draw.choice(half, LONGEST)
    return draw.integers(0, case.size, LONGEST)


def kinds_of(streams: Sequence[Stream]) -> dict[str, int]:
    """Return how many streams there are of each kind."""
    kinds = [stream.kind for stream in streams]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
