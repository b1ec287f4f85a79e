"""What a launch moves -> roughly how long it takes, so that choices can be put in order.

Nothing here was measured on a GPU: bandwidths are the data sheets' of the board that has each
architecture, latencies the usual ones. Only the order of the choices depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.engines.cuda.targets import Target

LAUNCH_US = 2.0  # one kernel of a graph after another
LATENCY_CYCLES = 600  # of a load that misses the caches
RESIDENT_THREADS = 1024  # of a multiprocessor, as most kernels leave room for
SCHEDULERS = 4  # of a multiprocessor: instructions of a warp a cycle


@dataclass(frozen=True)
class Board:
    """The smallest board with an architecture."""

    multiprocessors: int
    gigabytes_per_s: float
    gigahertz: float


_BOARDS = {  # the first whose architecture is at least the target's
    53: Board(1, 26, 0.9),  # Nano
    62: Board(2, 60, 1.3),  # TX2
    72: Board(6, 60, 1.1),  # Xavier NX
    75: Board(40, 320, 1.5),  # T4
    86: Board(28, 360, 1.7),
    87: Board(8, 102, 1.0),  # Orin NX
    89: Board(24, 270, 2.4),
    100: Board(132, 4800, 1.7),
    110: Board(20, 273, 1.5),  # Thor
    121: Board(48, 270, 2.4),
}


def microseconds(
    target: Target, threads: int, instructions: float, moved_bytes: int, rounds: int = 1
) -> float:
    """Estimate a kernel: each thread does `instructions`, after `rounds` of loads one by one."""
    board = next(b for sm, b in _BOARDS.items() if target.sm <= sm)
    waves = -(-threads // (board.multiprocessors * RESIDENT_THREADS))
    warps = threads / 32 / (board.multiprocessors * SCHEDULERS)
    cycles = waves * rounds * LATENCY_CYCLES + max(1.0, warps) * instructions
    streaming_us = moved_bytes / board.gigabytes_per_s / 1e3
    return LAUNCH_US + max(cycles / board.gigahertz / 1e3, streaming_us)
