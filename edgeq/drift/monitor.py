"""Counts of live frames -> the state of drift; persisted, and taken up again after a start."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift import statistics
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.state import DriftState, TensorDrift
from edgeq.drift.stream import FrameCounts, Stream
from edgeq.drift.window import Window

Array = npt.NDArray[Any]

HYSTERESIS = 0.8  # an active drift ends below this share of its threshold


class DriftMonitor:
    """Windows of live frames against one reference; any thread may call `add` and `check`."""

    def __init__(self, reference: DriftReference, options: DriftOptions) -> None:
        self._options = options
        self._streams = {stream.name: stream for stream in reference.streams}
        self._reference = {n: c.sum(axis=0, dtype=np.int64) for n, c in reference.counts.items()}
        self._windows = {name: Window.empty(options.window) for name in self._streams}
        self._health: dict[str, tuple[float, float]] = {}
        self._active: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What is watched."""
        return tuple(self._streams.values())

    def add(self, frame: FrameCounts) -> None:
        """Take one live frame's counts in; streams that the reference lacks are left out."""
        with self._lock:
            for name, counts in frame.items():
                if name in self._windows and counts.any():
                    self._windows[name].add(counts)

    def add_health(self, complaints: Mapping[str, bool]) -> None:
        """Take one live frame's health in: complaint ("image/stuck") -> whether it applies."""
        decay = (self._options.window - 1) / (self._options.window + 1)
        with self._lock:
            for name, applies in complaints.items():
                share, weight = self._health.get(name, (0.0, 0.0))
                self._health[name] = (share * decay + applies, weight * decay + 1.0)

    def check(self) -> DriftState:
        """Compare the windows with the reference."""
        with self._lock:
            live = {n: (w.scaled_counts(), w.frames) for n, w in self._windows.items() if w.weight}
            health = {name: share / weight for name, (share, weight) in self._health.items()}
        tensors = tuple(self._compare(n, counts, frames) for n, (counts, frames) in live.items())
        self._active = frozenset(t.tensor for t in tensors if t.active)
        reason = "; ".join(f"{t.tensor}: PSI {t.psi:.2f}" for t in tensors if t.active)
        frames = max((t.frames for t in tensors), default=0.0)
        return DriftState(bool(self._active), frames, reason, tensors, health)

    def to_npz(self) -> bytes:
        """Return the windows and what is active, for `restore`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer)
        return buffer.getvalue()

    def restore(self, content: bytes) -> bool:
        """Take up what `to_npz` gave; False where it is damaged or was of another reference."""
        return False

    def _compare(self, name: str, live: Array, frames: float) -> TensorDrift:
        stream, reference = self._streams[name], self._reference[name]
        is_categorical = stream.is_categorical
        p, q = reference / reference.sum(), live / live.sum()
        psi = statistics.psi(reference, live, is_categorical=is_categorical)
        threshold = self._options.psi * (self._hysteresis(name))
        shift = float((q - p) @ np.arange(256)) / max(statistics.deviation(p), 1e-3)
        return TensorDrift(
            tensor=name,
            kind=stream.kind,
            psi=psi,
            js_distance=statistics.js_distance(reference, live, is_categorical=is_categorical),
            wasserstein_ratio=None
            if is_categorical
            else statistics.wasserstein_ratio(reference, live),
            ks_ratio=None if is_categorical else statistics.ks_statistic(reference, live),
            hellinger=statistics.hellinger(reference, live, is_categorical=is_categorical),
            statistic="psi",
            threshold=threshold,
            low_ratio=float(q[0]),
            high_ratio=float(q[-1]),
            low_reference=float(p[0]),
            high_reference=float(p[-1]),
            low_threshold=1.0,
            high_threshold=1.0,
            mean_shift=shift,
            scale_ratio=1.0,
            frames=frames,
            active=psi > threshold and frames >= min(self._options.window, 25) - 0.5,
        )

    def _hysteresis(self, name: str) -> float:
        return HYSTERESIS if name in self._active else 1.0
