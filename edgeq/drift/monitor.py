"""Counts of live frames -> the state of drift; persisted, and taken up again after a start."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.limits import Limits, limits_of
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.scales import width_ratio
from edgeq.drift.state import DriftState, TensorDrift
from edgeq.drift.statistics import CODE, LEAST_DEVIATION, Distances, deviation
from edgeq.drift.stream import FrameCounts, Stream
from edgeq.drift.window import Window, place_of
from edgeq.drift.words import HYSTERESIS, reason_in_words, unfit_in_words

Array = npt.NDArray[Any]

LEAST_FRAMES = 25  # effective, before a window may alarm
FILLED = 0.9  # of a window that is smaller: it never quite reaches its size
HEALTH_WINDOW = 50  # frames: what ails a camera, ails all of them


@dataclass(frozen=True)
class _Watched:
    """One stream, and what of the reference its windows are compared with."""

    stream: Stream
    counts: Array  # int64 [256], of all frames
    limits: Limits


class DriftMonitor:
    """Windows of live frames against one reference; any thread may call any method."""

    def __init__(self, reference: DriftReference, options: DriftOptions) -> None:
        limits = limits_of(reference, options)
        self._watched = {
            s.name: _Watched(
                s, reference.counts[s.name].sum(axis=0, dtype=np.int64), limits[s.name]
            )
            for s in reference.streams
        }
        self._windows = {
            s.name: Window(options.window, _variance(reference.counts[s.name]))
            for s in reference.streams
        }
        self._images = frozenset(
            s.tensor for s in reference.streams if s.name == f"{s.tensor}/brightness"
        )
        self._digest = reference.digest
        self._least = min(LEAST_FRAMES, FILLED * options.window)
        self._health_window = min(HEALTH_WINDOW, options.window)
        self._health: dict[str, Share] = {}
        self._active: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What is watched."""
        return tuple(watched.stream for watched in self._watched.values())

    def add(self, frame: FrameCounts) -> None:
        """Take one live frame's counts in; streams that the reference lacks are left out."""
        with self._lock:
            for name, counts in frame.items():
                if name in self._windows and counts.any():
                    self._windows[name].add(counts)

    def merge(self, windows: Mapping[str, Window]) -> None:
        """Take in what another monitor's windows saw of the same time."""
        with self._lock:
            for name, window in windows.items():
                self._windows[name].merge(window)

    def windows(self) -> dict[str, Window]:
        """Return copies of the windows, for another monitor to merge."""
        with self._lock:
            return {
                name: Window.from_array(window.size, window.variance, window.to_array())
                for name, window in self._windows.items()
            }

    def add_health(self, complaints: Mapping[str, bool]) -> None:
        """Take one live frame's health in: complaint ("image/stuck") -> whether it applies."""
        decay = (self._health_window - 1) / (self._health_window + 1)
        with self._lock:
            for name, applies in complaints.items():
                share = self._health.get(name, Share(0.0, 0.0, 0.0))
                self._health[name] = share.after(applies, decay)

    def check(self) -> DriftState:
        """Compare the windows with the reference; each needs 25 effective frames to alarm."""
        with self._lock:
            live = {n: (w.scaled_counts(), w.frames) for n, w in self._windows.items() if w.weight}
            health = dict(self._health)
            active = self._active
        tensors = tuple(
            self._compare(self._watched[name], counts, frames, name in active)
            for name, (counts, frames) in live.items()
        )
        drifted = [tensor for tensor in tensors if tensor.active]
        with self._lock:
            self._active = frozenset(tensor.tensor for tensor in drifted)
        unfit = unfit_in_words({n: s.ratio for n, s in health.items() if s.frames >= self._least})
        reasons = [unfit, reason_in_words(drifted, self._images)]
        return DriftState(
            active=bool(drifted or unfit),
            frames=max((tensor.frames for tensor in tensors), default=0.0),
            reason="; ".join(reason for reason in reasons if reason),
            tensors=tensors,
            health={name: share.ratio for name, share in health.items()},
            unfit=unfit,
        )

    def _compare(
        self, watched: _Watched, live: Array, frames: float, was_active: bool
    ) -> TensorDrift:
        stream, limits = watched.stream, watched.limits
        distances = Distances.between(watched.counts, live, is_categorical=stream.is_categorical)
        p, q = watched.counts / watched.counts.sum(), live / live.sum()
        bounds, rails = limits.at(frames), _rails(stream, p, q)
        drift = TensorDrift(
            tensor=stream.name,
            kind=stream.kind,
            **asdict(distances),
            statistic=limits.statistic,
            threshold=bounds.statistic,
            **rails,
            low_threshold=bounds.low,
            high_threshold=bounds.high,
            mean_shift=float((q - p) @ CODE) / max(deviation(p), LEAST_DEVIATION),
            scale_ratio=width_ratio(live, watched.counts) if stream.has_rails else 1.0,
            frames=frames,
            active=False,
            starts_at_zero=stream.lo == 0.0,
        )
        level = HYSTERESIS if was_active else 1.0
        return replace(drift, active=frames >= self._least and drift.excess > level)

    # ---- over a restart

    def to_npz(self) -> bytes:
        """Return the windows and what is active, for `restore`."""
        with self._lock:
            windows = [window.to_array() for window in self._windows.values()]
            words = {
                "reference": self._digest,
                "names": list(self._windows),
                "active": sorted(self._active),
                "health": {name: astuple(share) for name, share in self._health.items()},
            }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            words=np.frombuffer(json.dumps(words).encode(), np.uint8),
            windows=np.array(windows, np.float64),
        )
        return buffer.getvalue()

    def restore(self, content: bytes) -> bool:
        """Take up what `to_npz` gave; False where it is damaged or was of another reference."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                words, rows = json.loads(arrays["words"].tobytes()), arrays["windows"]
            if words["reference"] != self._digest:
                return False
            restored = {
                name: Window.from_array(window.size, window.variance, row)
                for (name, window), row in zip(self._windows.items(), rows, strict=True)
            }
            health = {str(name): Share(*share) for name, share in words["health"].items()}
            active = frozenset(map(str, words["active"]))
        except Exception:  # noqa: BLE001 - zipfile, zlib, numpy and json each raise their own
            return False
        with self._lock:
            self._windows, self._health, self._active = restored, health, active
        return True


@dataclass(frozen=True)
class Share:
    """How much of the last frames something applies to, the older the lighter."""

    sum: float
    weight: float
    squares: float

    def after(self, applies: bool, decay: float) -> Share:
        """Return it with one frame more."""
        return Share(
            self.sum * decay + applies, self.weight * decay + 1.0, self.squares * decay**2 + 1.0
        )

    @property
    def ratio(self) -> float:
        """Share of the frames, 0 to 1."""
        return self.sum / self.weight if self.weight else 0.0

    @property
    def frames(self) -> float:
        """Effective number of frames (Kish)."""
        return self.weight**2 / self.squares if self.squares else 0.0


def _rails(stream: Stream, p: Array, q: Array) -> dict[str, float]:
    """Shares at both ends of the codes; classes have none."""
    if not stream.has_rails:
        p = q = np.zeros(2)
    return {
        "low_ratio": float(q[0]),
        "high_ratio": float(q[-1]),
        "low_reference": float(p[0]),
        "high_reference": float(p[-1]),
    }


def _variance(counts: Array) -> float:
    """Of the reference frames' places."""
    seen = counts[counts.any(axis=1)]
    return float(place_of(seen).var()) if len(seen) else 0.0
