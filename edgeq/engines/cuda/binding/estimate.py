"""What a kernel of many alike threads does -> how long it may take: the cost model, in short."""

from __future__ import annotations

from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.targets import Target

THREADS = 128  # of a block, as most such kernels have
REGISTERS = 64  # of a thread, as they are allowed: 1024 threads of a multiprocessor at once


def microseconds(
    target: Target, threads: int, instructions: float, moved_bytes: int, rounds: int = 1
) -> float:
    """Estimate a kernel: each thread does `instructions`, with `rounds` of loads one by one."""
    demand = Demand(
        blocks=-(-threads // THREADS),
        threads=THREADS,
        moved_bytes=moved_bytes,
        instructions=instructions,
        rounds=rounds,
        registers=REGISTERS,
    )
    return estimate(target, demand).microseconds
