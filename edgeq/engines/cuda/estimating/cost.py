"""What a launch asks for -> how long it may take on a board, and what it waits for most.

A roofline by multiprocessor: the one with the most blocks decides. Nothing in here was fitted to a
GPU: only the order of the choices depends on it, and the tuner has the last word on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeq.engines.cuda.estimating.boards import Board, Unit, board_for
from edgeq.engines.cuda.estimating.occupancy import WARP, occupancy
from edgeq.engines.cuda.launch import Work
from edgeq.engines.cuda.targets import Target

LAUNCH_US = 2.0  # from one kernel of a graph to the next: 1.5 to 2 on Orin
LATENCY_CYCLES = 600.0  # of a load that misses the caches
FETCH_BYTES_A_CYCLE = 64.0  # from L2 to one multiprocessor
SCHEDULERS = 4  # of a multiprocessor: as many warps issue in a cycle
OVERLAP = 4  # two things that take as long together take 1.19 times as long, not once or twice
BUSY_WARPS = 8  # resident ones that hide the latencies of arithmetic

Bound = Literal["launch", "memory", "fetching", "products", "instructions", "latency"]


@dataclass(frozen=True)
class Demand:
    """What one launch does, before its kernel is compiled.

    What is computed or loaded in vain, for padding and at edges of tiles, counts too.
    """

    blocks: int
    threads: int  # of a block
    moved_bytes: float  # to and from DRAM, each byte once
    fetched_bytes: float = 0.0  # by all blocks together from L2, each time it is read
    products: float = 0.0  # multiply-accumulates, of all blocks together
    unit: Unit = "tensor"  # what carries out the products
    instructions: float = 0.0  # of a thread, beside the tensor cores' products
    rounds: float = 1.0  # of loads that wait for one another, in a thread
    registers: int = 64  # of a thread
    shared_bytes: int = 0  # of a block


@dataclass(frozen=True)
class Estimate:
    """The time a launch may take, and what binds it."""

    microseconds: float
    bound: Bound
    waves: int  # how often a multiprocessor is filled with blocks anew


@dataclass(frozen=True)
class Roofline:
    """What a board needs for some work at least, however it is carried out."""

    microseconds: float
    bound: Bound


def estimate(target: Target, demand: Demand, board: Board | None = None) -> Estimate:
    """Return how long a launch may take; by default on the architecture's usual board.

    A block that no multiprocessor can hold takes infinitely long.
    """
    board = board or board_for(target)
    held = occupancy(target, demand.threads, demand.registers, demand.shared_bytes).blocks
    if not held:
        return Estimate(float("inf"), "latency", 0)
    busiest = -(-demand.blocks // board.multiprocessors)
    waves = -(-busiest // held)
    times = _streaming(board, demand, busiest, min(busiest, held))
    # The first block's loads are waited for with nothing else to do; those of later ones are
    # hidden behind the blocks beside them, as far as there are any.
    latency = demand.rounds * LATENCY_CYCLES / board.gigahertz / 1e3
    streaming = sum(time**OVERLAP for time in times.values()) ** (1 / OVERLAP)
    total = max(streaming + latency, waves * latency)
    times |= {"latency": total - streaming, "launch": LAUNCH_US}
    return Estimate(LAUNCH_US + total, max(times, key=lambda name: times[name]), waves)


def _streaming(board: Board, demand: Demand, busiest: int, resident: int) -> dict[Bound, float]:
    """Return the microseconds of each thing that the busiest multiprocessor does all the time."""
    warps = -(-demand.threads // WARP)
    busy = min(1.0, resident * warps / BUSY_WARPS)
    share = busiest / max(1, demand.blocks)  # of the launch, on that multiprocessor
    fetched = max(demand.fetched_bytes, demand.moved_bytes)
    cycles: dict[Bound, float] = {
        "products": demand.products * share / board.products_a_cycle(demand.unit) / busy,
        "instructions": demand.instructions * warps * busiest / SCHEDULERS / busy,
        "fetching": fetched * share / FETCH_BYTES_A_CYCLE,
    }
    times: dict[Bound, float] = {name: n / board.gigahertz / 1e3 for name, n in cycles.items()}
    times["memory"] = demand.moved_bytes / board.gigabytes_per_s / 1e3
    return times


def roofline(board: Board, work: Work) -> Roofline:
    """Return the least time for some work: the board's peaks, and nothing else."""
    memory = (work.read_bytes + work.written_bytes) / board.gigabytes_per_s / 1e3
    products = 2e-6 * work.multiply_accumulates / board.int8_tops
    return Roofline(memory, "memory") if memory >= products else Roofline(products, "products")
