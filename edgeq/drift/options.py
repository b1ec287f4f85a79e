"""What counts as drift, how often it is looked for, and what then happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_FALSE_ALARMS = 0.05  # the bootstrap's tail is told from this share of its draws


@dataclass(frozen=True)
class DriftOptions:
    """What the configuration says of drift."""

    policy: Literal["recalibrate", "alert", "off"] = "recalibrate"
    window: int = 200  # frames: the effective size of the decaying window
    psi: float = 0.1  # the least PSI that counts, whatever the sample size
    false_alarm_ratio: float = 0.01  # of windows without drift, over all streams together
    interval_s: float = 10.0
    minimum_interval_s: float = 3600.0  # between two recalibrations
    daily_budget: int = 6  # recalibrations that it may start within 24 hours
    activation_interval_s: float = 1.0  # between frames whose activations are counted; 0: none are
    save_interval_s: float = 30.0  # between two writes of what is to survive a crash
