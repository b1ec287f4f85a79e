"""What a look at the window found, stream by stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeq.drift.statistics import Statistic
from edgeq.drift.stream import StreamKind


@dataclass(frozen=True)
class TensorDrift:
    """One stream's distance from calibration over the window."""

    tensor: str  # the stream's name
    kind: StreamKind
    psi: float
    js_distance: float
    wasserstein_ratio: float | None  # over the reference's deviation; None: classes have no order
    ks_ratio: float | None
    hellinger: float
    statistic: Statistic  # which of them decides
    threshold: float  # on it; infinite where the reference has too few frames to tell
    low_ratio: float  # share of the live values at the lower rail, or under it
    high_ratio: float
    low_reference: float  # the same at calibration
    high_reference: float
    low_threshold: float  # share at the rail above which it counts as drift
    high_threshold: float
    mean_shift: float  # live mean less the reference's, in reference deviations
    scale_ratio: float  # threshold that calibration would choose today over the one in use
    frames: float  # effective size of this stream's window
    active: bool  # this stream drifts
    starts_at_zero: bool = False  # a ReLU's zeros lie at the lower rail, and are not clipped

    @property
    def value(self) -> float:
        """The statistic that decides."""
        value: float | None = getattr(self, self.statistic)
        return 0.0 if value is None else value

    @property
    def excess(self) -> float:
        """How far over its bounds it is: 1 is at the bound."""
        shares = (
            (self.value, self.threshold),
            (self.low_ratio, self.low_threshold),
            (self.high_ratio, self.high_threshold),
        )
        return max(value / bound for value, bound in shares)


@dataclass(frozen=True)
class DriftState:
    """What the last check found."""

    active: bool
    frames: float  # effective size of the window, of the stream that has most
    reason: str  # in words, the worst first; "" while not active
    tensors: tuple[TensorDrift, ...]
    health: Mapping[str, float] = field(default_factory=dict)  # share of frames, by complaint
    unfit: str = ""  # why these frames are not to be calibrated on, in words: a stuck camera
