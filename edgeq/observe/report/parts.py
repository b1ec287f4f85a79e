"""What a report is made from: everything a bundle holds that people want to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeq.bundle import Manifest
from edgeq.calibrate.histogram import Histogram
from edgeq.explain.explanation import Explanation
from edgeq.observe.report.record import BuildRecord


@dataclass(frozen=True)
class ReportParts:
    """What a report shows; `verdict` and `latency` are as their JSON has them."""

    manifest: Manifest
    verdict: Mapping[str, Any]
    explanation: Explanation
    histograms: Mapping[str, Histogram]
    latency: Sequence[Mapping[str, Any]] = ()
    record: BuildRecord = field(default_factory=BuildRecord)
    by_method: Mapping[str, float] = field(default_factory=dict)  # SQNR dB on `golden` inputs
    golden: int = 0
    bytes_float: int = 0  # of the model as it arrived; 0 where it is not known
    bytes_int8: int = 0
    plan: str = ""  # of the GPU's kernels, as text
