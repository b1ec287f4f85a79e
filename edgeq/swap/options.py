"""How a slot serves and swaps: plain numbers, the configuration's `swap` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["load-then-drop", "drop-then-load"]


@dataclass(frozen=True)
class SwapOptions:
    """How a slot serves and swaps; the policies are TensorFlow Serving's two.

    'load-then-drop' never stops serving; 'drop-then-load' is for models of which two do not fit
    in memory, and answers `UnavailableError` while it loads.
    """

    policy: Policy = "load-then-drop"
    instances: int = 1  # engines of a version, and so inferences at a time
    queue_size: int = 64  # requests that may wait beyond those that run
    inline_below_s: float = 0.001  # a model that takes less runs on the caller's thread; 0: none
    max_batch: int = 1  # requests that may run together; 1: each alone
    max_delay_us: int = 0  # how long the first of a batch waits for others
    warmup_runs: int = 3  # of each engine, before it serves
    drain_timeout_s: float = 30.0
