"""Engines of a version -> answers; the one owner of the live engine.

The lifecycle is Triton's (load beside, flip under a lock, drain by reference count), with what it
lacks: a new engine must reproduce its golden outputs before it serves, and is watched afterwards.
"""

from edgeq.swap.options import Policy, SwapOptions
from edgeq.swap.pool import LiveInfo
from edgeq.swap.probation import Health, ProbationOptions, probation_verdict
from edgeq.swap.requests import Inference, InferRecord
from edgeq.swap.slot import Slot

__all__ = [
    "Health",
    "InferRecord",
    "Inference",
    "LiveInfo",
    "Policy",
    "ProbationOptions",
    "Slot",
    "SwapOptions",
    "probation_verdict",
]
