"""Engines of a version -> answers; the one owner of the live engine.

The lifecycle is Triton's (load beside, flip under a lock, drain by reference count), with what it
lacks: a new engine must reproduce its golden outputs before it serves, and is watched afterwards.
"""

from edgeq.swap.hangs import Hang, HangWatch
from edgeq.swap.options import Policy, SwapOptions
from edgeq.swap.pool import LiveInfo
from edgeq.swap.probation import (
    Health,
    Latency,
    LatencyRecord,
    ProbationOptions,
    latency_verdict,
    probation_verdict,
)
from edgeq.swap.requests import Afterwards, Inference, InferRecord, at_once
from edgeq.swap.shadow import Shadow, ShadowOptions, ShadowReport, shadow_verdict
from edgeq.swap.slot import Slot
from edgeq.swap.turn import TurnBudget

__all__ = [
    "Afterwards",
    "Hang",
    "HangWatch",
    "Health",
    "InferRecord",
    "Inference",
    "Latency",
    "LatencyRecord",
    "LiveInfo",
    "Policy",
    "ProbationOptions",
    "Shadow",
    "ShadowOptions",
    "ShadowReport",
    "Slot",
    "SwapOptions",
    "TurnBudget",
    "at_once",
    "latency_verdict",
    "probation_verdict",
    "shadow_verdict",
]
