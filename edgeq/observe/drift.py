"""Live inputs against the inputs the engine was calibrated on: how far, and is it more than chance?

Every frame becomes one row of counts per input, in bins that hold equal shares of the calibration
samples. A window of frames is compared with all calibration frames by PSI, Jensen-Shannon
distance, Wasserstein distance over the reference's deviation, and Kolmogorov-Smirnov. The alarm
threshold is what chance alone would give at this many frames, and never below the configured PSI:
a fixed PSI of 0.1 would alarm on 22 % of 200-frame windows with no drift at all.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.histogram import BINS as HISTOGRAM_BINS
from edgeq.calibrate.histogram import Histogram
from edgeq.observe.divergence import (
    chance_threshold,
    js_distance,
    ks_statistic,
    psi,
    wasserstein_distance,
)

Array = npt.NDArray[Any]
Frame = Mapping[str, Array]

BINS = 20  # inside the reference's range; one more on either side catches what lies beyond
REFERENCE_FRAMES = 512
VALUES_PER_FRAME = 1 << 14  # of a larger input every n-th value is read
HYSTERESIS = 0.8  # an active drift ends below this share of its threshold
NOTABLE_SHIFT = 0.1  # deviations; a smaller one is not put into words
NOTABLE_BEYOND = 0.001
RATIO_LIMIT = 1e6  # what a distance from a constant is reported as: JSON has no infinity


@dataclass(frozen=True)
class DriftOptions:
    """What counts as drift, how often it is looked for, and what then happens."""

    policy: Literal["recalibrate", "alert", "off"] = "recalibrate"
    window: int = 200  # frames
    psi: float = 0.1  # the least PSI that counts, whatever the sample size
    interval_s: float = 10.0
    minimum_interval_s: float = 3600.0  # between two recalibrations


@dataclass(frozen=True)
class Summary:
    """One frame of one input, reduced to what is compared."""

    counts: Array  # int64 [bins + 2]; the first and the last bin are the outside
    moments: Array  # float64 [4]: min, max, mean, mean square of the finite values, or NaN


@dataclass(frozen=True)
class TensorReference:
    """One input's calibration frames."""

    edges: Array  # float64 [bins + 1], from the least to the largest value
    counts: Array  # int64 [frames, bins + 2]
    moments: Array  # float64 [frames, 4]

    @property
    def shares(self) -> Array:
        """Each frame's counts over their sum, [frames, bins + 2]."""
        return _shares(self.counts)

    @property
    def outer_edges(self) -> Array:
        """The edges, and an end for each outside bin: how far out its values lie is not kept."""
        low, high = self.edges[0], self.edges[-1]
        reach = ((high - low) or max(abs(high), 1.0)) / BINS
        return np.concatenate([[low - reach], self.edges, [high + reach]])

    def summarize(self, values: Array) -> Summary:
        """Reduce one frame; NaN counts as above the range."""
        return _summary(_thinned(values), self.edges)


@dataclass(frozen=True)
class DriftReference:
    """What the live frames are compared with; travels in the bundle as `drift.npz`."""

    tensors: Mapping[str, TensorReference]

    @classmethod
    def from_frames(cls, frames: Callable[[], Iterable[Frame]]) -> DriftReference:
        """Lay the bins over up to 512 frames, then count each; `frames` gives them anew."""
        histograms: dict[str, Histogram] = {}
        for frame in itertools.islice(frames(), REFERENCE_FRAMES):
            for name, values in _readable(frame):
                histograms.setdefault(name, Histogram()).add(_as_float32(_thinned(values)))
        edges = {name: _edges(h) for name, h in histograms.items() if h.count}
        rows: dict[str, list[Summary]] = {name: [] for name in edges}
        for frame in itertools.islice(frames(), REFERENCE_FRAMES):
            for name, values in _readable(frame):
                if name in rows:
                    rows[name].append(_summary(_thinned(values), edges[name]))
        return cls({name: _stacked(edges[name], kept) for name, kept in rows.items() if kept})

    def to_npz(self) -> bytes:
        """Return the file's content."""
        arrays: dict[str, Any] = {"names": np.asarray(list(self.tensors), dtype=np.str_)}
        for number, tensor in enumerate(self.tensors.values()):
            arrays[f"edges_{number}"] = tensor.edges
            arrays[f"counts_{number}"] = tensor.counts
            arrays[f"moments_{number}"] = tensor.moments
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> DriftReference:
        """Read what `to_npz` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            tensors = {
                str(name): TensorReference(
                    arrays[f"edges_{n}"], arrays[f"counts_{n}"], arrays[f"moments_{n}"]
                )
                for n, name in enumerate(arrays["names"])
            }
        return cls(tensors)


@dataclass(frozen=True)
class TensorDrift:
    """One input's distance from calibration over the window."""

    tensor: str
    psi: float
    js_distance: float
    wasserstein_ratio: float  # over the reference's deviation
    ks_ratio: float
    threshold: float  # on psi; infinite where the reference has too few frames to tell
    below_ratio: float  # share of values under the calibrated range
    above_ratio: float
    mean_shift: float  # live mean less the reference's, in reference deviations
    scale_ratio: float  # width of the median live frame over that of the median reference frame


@dataclass(frozen=True)
class DriftState:
    """What the last check found."""

    active: bool
    frames: int
    reason: str  # in words, "" while not active
    tensors: tuple[TensorDrift, ...]


class DriftMonitor:
    """A sliding window of live frames against one reference.

    `add` is called by one thread and `check` by another; both only touch bounded deques, whose
    append and copy are each one step for the other thread.
    """

    def __init__(self, reference: DriftReference, options: DriftOptions) -> None:
        self._reference = reference
        self._options = options
        self._windows: dict[str, deque[Summary]] = {
            name: deque(maxlen=options.window) for name in reference.tensors
        }
        self._active = False

    @functools.cached_property
    def _thresholds(self) -> dict[str, float]:
        """Drawn at the first check, not in a swap: 512 frames take a core for 0.1 to 0.2 s."""
        return {
            name: max(self._options.psi, chance_threshold(tensor.shares, self._options.window))
            for name, tensor in self._reference.tensors.items()
        }

    def add(self, inputs: Frame) -> None:
        """Take one live frame into the window."""
        for name, values in _readable(inputs):
            if name in self._windows:
                summary = self._reference.tensors[name].summarize(values)
                self._windows[name].append(summary)

    def check(self) -> DriftState:
        """Compare the window with the reference; drift needs a full window."""
        windows = {name: list(window) for name, window in self._windows.items()}
        frames = min(map(len, windows.values()), default=0)
        if not frames:
            return DriftState(False, 0, "", ())
        tensors = tuple(self._compare(name, window) for name, window in windows.items())
        level = HYSTERESIS if self._active else 1.0
        drifted = [t for t in tensors if t.psi > level * t.threshold]
        self._active = frames >= self._options.window and bool(drifted)
        reason = "; ".join(_in_words(t, frames) for t in drifted) if self._active else ""
        return DriftState(self._active, frames, reason, tensors)

    def _compare(self, name: str, window: list[Summary]) -> TensorDrift:
        reference = self._reference.tensors[name]
        live = _stacked(reference.edges, window)
        p, q = reference.shares.mean(axis=0), live.shares.mean(axis=0)
        mean, deviation, width = _location(reference.moments)
        live_mean, _, live_width = _location(live.moments)
        distance = wasserstein_distance(p, q, reference.outer_edges)
        return TensorDrift(
            tensor=name,
            psi=float(psi(p, q, len(reference.counts))),
            js_distance=js_distance(p, q),
            wasserstein_ratio=_ratio(distance, deviation),
            ks_ratio=ks_statistic(p, q),
            threshold=self._thresholds[name],
            below_ratio=float(q[0]),
            above_ratio=float(q[-1]),
            mean_shift=_ratio(live_mean - mean, deviation),
            scale_ratio=_ratio(live_width, width) if width or live_width else 1.0,
        )


def _readable(frame: Frame) -> Iterable[tuple[str, Array]]:
    """The inputs that hold numbers."""
    arrays = ((name, np.asarray(values)) for name, values in frame.items())
    return (
        (name, values) for name, values in arrays if values.size and values.dtype.kind in "biuf"
    )


def _thinned(values: Array) -> Array:
    """At most VALUES_PER_FRAME values, evenly spread; the stride meets every channel and column."""
    flat = values.reshape(-1)
    stride = -(-flat.size // VALUES_PER_FRAME)
    while stride > 1 and math.gcd(stride, flat.size) > 1:
        stride += 1
    return flat[::stride]


def _as_float32(flat: Array) -> Array:
    with np.errstate(over="ignore"):  # what is beyond float32 is left out of the bins
        return flat.astype(np.float32)


def _summary(flat: Array, edges: Array) -> Summary:
    bins = np.searchsorted(edges, flat, side="right")
    bins[flat == edges[-1]] = len(edges) - 1  # the maximum belongs inside
    counts = np.bincount(bins, minlength=len(edges) + 1)
    finite = flat[np.isfinite(flat)].astype(np.float64)
    if not finite.size:
        return Summary(counts, np.full(4, np.nan))
    square = float(np.square(finite).mean())
    moments = np.array([finite.min(), finite.max(), finite.mean(), square])
    return Summary(counts, moments)


def _stacked(edges: Array, summaries: list[Summary]) -> TensorReference:
    counts = np.stack([summary.counts for summary in summaries])
    return TensorReference(edges, counts, np.stack([summary.moments for summary in summaries]))


def _edges(histogram: Histogram) -> Array:
    """Edges of bins with equal shares; values that come often get a bin of their own."""
    cumulative = np.cumsum(histogram.bins)
    wanted = np.arange(1, BINS) * (histogram.count / BINS)
    places = np.searchsorted(cumulative, wanted)
    # Both ends of each such bin: what is all 0 or 255 leaves the room between for other values.
    often = histogram.bins[places] > histogram.count / BINS
    inner = (np.concatenate([places + 1, places[often]]) - HISTOGRAM_BINS) * histogram.width
    low, high = histogram.min, histogram.max
    inner = np.unique(inner[(inner > low) & (inner <= high)])
    return np.concatenate([[low], inner, [high]])


def _shares(counts: Array) -> Array:
    shares: Array = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def _location(moments: Array) -> tuple[float, float, float]:
    """Mean and deviation of all values, and the width of the median frame; 0 without frames."""
    finite = moments[np.isfinite(moments).all(axis=1)]
    if not len(finite):
        return 0.0, 0.0, 0.0
    mean, square = finite[:, 2].mean(), finite[:, 3].mean()
    width = float(np.median(finite[:, 1] - finite[:, 0]))
    return float(mean), math.sqrt(max(0.0, square - mean**2)), width


def _ratio(value: float, unit: float) -> float:
    if value == 0.0:
        return 0.0
    if abs(value) >= RATIO_LIMIT * unit:
        return math.copysign(RATIO_LIMIT, value)
    return value / unit


def _in_words(drift: TensorDrift, frames: int) -> str:
    parts = [f"PSI {drift.psi:.2f} > {drift.threshold:.2f} at n={frames}"]
    if abs(drift.mean_shift) > NOTABLE_SHIFT:
        parts.insert(0, "lower" if drift.mean_shift < 0 else "higher")
    beyond = drift.below_ratio + drift.above_ratio
    if beyond > NOTABLE_BEYOND:
        parts.append(f"{beyond:.1%} of the values lie outside the calibrated range")
    return f"input {drift.tensor!r}: " + ", ".join(parts)
