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

    # Of clients on one event loop, with the loop's thread and the workers on 2 x86 cores:
    #
    # instances  A second one of VWW INT8 (0.13 ms) and ResNet-8 INT8 (0.09 ms) answered no more
    #   at 4 clients (3.8 and 3.9 to 4.6 thousand/s) and a tenth more at 16, with p99 up to twice
    #   as long; of float MobileNet (1.1 ms) and UltraFace (2.3 ms) no more either. Four: as two.
    # inline_below_s  A worker and back costs 60 to 150 us, most of it to hand the interpreter's
    #   lock over: VWW INT8 answered in 0.21 ms (p50, one client) here and in 0.43 there, ResNet-8
    #   in 0.16 and 0.31; a model of 1 ms gains less than a tenth, and holds the loop up as long.
    # max_batch  A run of 4 or 8 takes 2 to 10 % less per sample for convolutions, half for the
    #   dense AD network; over the queue, nothing that stands out of the noise. For other boxes.

    policy: Policy = "load-then-drop"
    instances: int = 1  # engines of a version, and so inferences at a time
    queue_size: int = 64  # requests that may wait beyond those that run
    inline_below_s: float = 0.001  # a model that takes less runs on the caller's thread; 0: none
    max_batch: int = 1  # requests that may run together; 1: each alone
    max_delay_us: int = 0  # how long the first of a batch waits for others
    warmup_runs: int = 3  # of each engine, before it serves
    drain_timeout_s: float = 30.0
    hang_timeout_s: float = 10.0  # an inference that takes longer, and far longer than usual, hangs
    load_timeout_s: float = 300.0  # for all engines of a version; slow boards compile kernels anew
