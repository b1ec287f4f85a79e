"""Live inputs against the inputs the engine was calibrated on: how far, and is it more than chance?

Every frame becomes one coarse histogram per input tensor (`FrameCounts`), whose bins were laid
over the calibration samples. A window of frames is compared with all calibration frames by PSI,
Jensen-Shannon distance (natural log), Wasserstein distance over the reference's deviation, and
Kolmogorov-Smirnov. Pixels of a frame hang together, so the sample size that counts is frames: the
alarm threshold is taken from windows drawn from the calibration frames themselves (bootstrap),
never below the configured PSI. A fixed PSI of 0.1 would alarm on 22 % of 200-frame windows with
no drift at all.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS = 20  # inside the reference's range; one more on either side catches what lies beyond
REFERENCE_FRAMES = 512
BOOTSTRAP_DRAWS = 400
NULL_QUANTILE = 0.999
EMPTY_SHARE = 1e-4  # stands for an empty bin, as Evidently does in its PSI
HYSTERESIS = 0.8  # an active drift ends below this share of its threshold


@dataclass(frozen=True)
class DriftOptions:
    """What counts as drift, how often it is looked for, and what then happens."""

    policy: Literal["recalibrate", "alert", "off"] = "recalibrate"
    window: int = 200  # frames
    psi: float = 0.1  # the least PSI that counts, whatever the sample size
    interval_s: float = 10.0
    minimum_interval_s: float = 3600.0  # between two recalibrations


@dataclass(frozen=True)
class TensorReference:
    """One input's calibration frames, binned; the first and last bin are the outside."""

    edges: Array  # float64 [BINS + 1]
    frames: Array  # int64 [frames, BINS + 2]

    def count(self, values: Array) -> Array:
        """Return one frame's counts, int64 [BINS + 2]; NaN lands in the last bin."""
        flat = values.ravel()
        bins = np.searchsorted(self.edges, flat, side="right")
        bins[flat == self.edges[-1]] = len(self.edges) - 1  # the maximum belongs inside
        return np.bincount(bins, minlength=len(self.edges) + 1)


@dataclass(frozen=True)
class DriftReference:
    """What the live frames are compared with; travels in the bundle as `drift.npz`."""

    tensors: Mapping[str, TensorReference]

    @classmethod
    def from_frames(cls, frames: Iterable[Mapping[str, Array]]) -> DriftReference:
        """Bin up to 512 calibration frames over their own range."""
        kept = [frame for frame, _ in zip(frames, range(REFERENCE_FRAMES), strict=False)]
        tensors = {}
        for name in kept[0] if kept else ():
            values = [np.asarray(frame[name]) for frame in kept]
            low = min(float(v.min()) for v in values)
            high = max(float(v.max()) for v in values)
            edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
            empty = TensorReference(edges, np.zeros((0, BINS + 2), np.int64))
            tensors[name] = TensorReference(edges, np.stack([empty.count(v) for v in values]))
        return cls(tensors)

    def to_npz(self) -> bytes:
        """Return the file's content."""
        arrays: dict[str, Any] = {"names": np.asarray(list(self.tensors), dtype=np.str_)}
        for number, tensor in enumerate(self.tensors.values()):
            arrays[f"edges_{number}"], arrays[f"frames_{number}"] = tensor.edges, tensor.frames
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> DriftReference:
        """Read what `to_npz` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(
                {
                    str(name): TensorReference(arrays[f"edges_{n}"], arrays[f"frames_{n}"])
                    for n, name in enumerate(arrays["names"])
                }
            )


@dataclass(frozen=True)
class TensorDrift:
    """One input's distance from calibration over the window."""

    tensor: str
    psi: float
    js_distance: float
    wasserstein_ratio: float
    ks_ratio: float
    threshold: float  # on psi
    below_ratio: float  # share of values under the calibrated range
    above_ratio: float
    mean_shift: float  # live mean less the reference's, in reference deviations

    @property
    def exceeds(self) -> bool:
        """True where the PSI is above its threshold."""
        return self.psi > self.threshold


@dataclass(frozen=True)
class DriftState:
    """What the last check found."""

    active: bool
    frames: int
    reason: str  # in words, "" while not active
    tensors: tuple[TensorDrift, ...]


class DriftMonitor:
    """A sliding window of live frames against one reference.

    `add` is called by one thread and `check` by another; both only touch a bounded deque.
    """

    def __init__(self, reference: DriftReference, options: DriftOptions) -> None:
        self._reference = reference
        self._options = options
        self._windows: dict[str, deque[Array]] = {
            name: deque(maxlen=options.window) for name in reference.tensors
        }
        self._thresholds = {
            name: null_threshold(tensor.frames, options.window, options.psi)
            for name, tensor in reference.tensors.items()
        }
        self._active = False

    def add(self, inputs: Mapping[str, Array]) -> None:
        """Take one live frame into the window."""
        for name, tensor in self._reference.tensors.items():
            if name in inputs:
                self._windows[name].append(tensor.count(np.asarray(inputs[name])))

    def check(self) -> DriftState:
        """Compare the window with the reference; drift needs a full window."""
        frames = min((len(window) for window in self._windows.values()), default=0)
        if not frames:
            return DriftState(False, 0, "", ())
        tensors = tuple(self._tensor(name) for name in self._reference.tensors)
        full = frames >= self._options.window
        level = HYSTERESIS if self._active else 1.0
        drifted = [t for t in tensors if t.psi > level * t.threshold]
        self._active = full and bool(drifted)
        reason = "; ".join(_in_words(t, frames) for t in drifted) if self._active else ""
        return DriftState(self._active, frames, reason, tensors)

    def _tensor(self, name: str) -> TensorDrift:
        reference = self._reference.tensors[name]
        live = np.sum(list(self._windows[name]), axis=0)
        base = reference.frames.sum(axis=0)
        p, q = base / base.sum(), live / live.sum()
        centres = _centres(reference.edges)
        mean = float(p @ centres)
        deviation = max(float(np.sqrt(p @ np.square(centres - mean))), 1e-12)
        gaps = np.diff(centres)
        cumulative = np.abs(np.cumsum(p - q))
        return TensorDrift(
            tensor=name,
            psi=psi(p, q),
            js_distance=js_distance(p, q),
            wasserstein_ratio=float(cumulative[:-1] @ gaps) / deviation,
            ks_ratio=float(cumulative.max()),
            threshold=self._thresholds[name],
            below_ratio=float(q[0]),
            above_ratio=float(q[-1]),
            mean_shift=(float(q @ centres) - mean) / deviation,
        )


def psi(p: Array, q: Array) -> float:
    """Population stability index of two share vectors; an empty bin counts as 1e-4."""
    p, q = np.where(p > 0, p, EMPTY_SHARE), np.where(q > 0, q, EMPTY_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def js_distance(p: Array, q: Array) -> float:
    """Jensen-Shannon distance, natural log: 0 to sqrt(ln 2)."""
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log(p / middle), 0.0).sum()
        right = np.where(q > 0, q * np.log(q / middle), 0.0).sum()
    return float(np.sqrt(max(0.0, (left + right) / 2)))


def null_threshold(frames: Array, window: int, least: float) -> float:
    """Return the PSI that windows without drift stay under, 999 in 1000; never under `least`.

    Windows are drawn with replacement from the calibration frames; deterministic by seed.
    """
    draw = np.random.default_rng(0)
    base = frames.sum(axis=0) / max(1, frames.sum())
    values = []
    for _ in range(BOOTSTRAP_DRAWS):
        picked = frames[draw.integers(0, len(frames), window)].sum(axis=0)
        values.append(psi(base, picked / picked.sum()))
    # The reference is a sample too: with few frames its own noise adds to the window's.
    inflation = 1.0 + window / len(frames)
    return max(least, float(np.quantile(values, NULL_QUANTILE)) * inflation)


def _centres(edges: Array) -> Array:
    step = edges[1] - edges[0]
    inside = (edges[:-1] + edges[1:]) / 2
    return np.concatenate([[edges[0] - step / 2], inside, [edges[-1] + step / 2]])


def _in_words(drift: TensorDrift, frames: int) -> str:
    parts = [f"PSI {drift.psi:.2f} > {drift.threshold:.2f} at n={frames}"]
    if abs(drift.mean_shift) > 0.1:
        parts.insert(0, "lower" if drift.mean_shift < 0 else "higher")
    beyond = drift.below_ratio + drift.above_ratio
    if beyond > 0.001:
        parts.append(f"{beyond:.1%} of the values lie outside the calibrated range")
    return f"input {drift.tensor!r}: " + ", ".join(parts)
