"""A Softmax -> the kernel that carries it out, with few or many rows in a block."""

from __future__ import annotations

import math

import numpy as np

from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.nest import extents, power_of_two, together
from edgeq.engines.cuda.binding.packing import round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Work
from edgeq.engines.cuda.nodes import Softmax
from edgeq.errors import EngineError

ROWS_OF_A_BLOCK = (1, 4, 32)  # added side by side, each by a lane of one warp
MOST_TERMS = 8192  # float32 of a block in shared memory
MOST_THREADS = 256
ADDITION_CYCLES = 5  # one after the other: the latency of an addition, a fourth of a load
LOOKUP_INSTRUCTIONS = 24  # of an element in all three passes
BEST = 2


def choices(node: Softmax, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Softmax, best first."""
    rows = math.prod(site.view(node.x).shape[:-1])
    fewest = min(ROWS_OF_A_BLOCK)
    together_ = [count for count in ROWS_OF_A_BLOCK if count <= max(rows, fewest)]
    found = sorted((_choice(node, site, n) for n in together_), key=lambda c: c.microseconds)
    return tuple(found[:BEST])


def _choice(node: Softmax, site: Site, rows: int) -> Choice:
    count = math.prod(site.view(node.x).shape[:-1])
    blocks, threads = -(-count // rows), _threads(node, rows)
    lookups = rows * node.depth / 32 * LOOKUP_INSTRUCTIONS  # of a block's warps in all
    moved = count * node.depth
    estimated = microseconds(
        site.target, blocks * 32, ADDITION_CYCLES * node.depth + lookups, 2 * moved, 3
    )
    return Choice(
        f"softmax r{rows}", estimated, lambda: (_launch(node, site, rows, threads, blocks),)
    )


def _threads(node: Softmax, rows: int) -> int:
    """Return a power of two: about four elements of each row for a thread."""
    wanted = rows * -(-node.depth // 4)
    return min(MOST_THREADS, max(32, rows, power_of_two(wanted)))


def _launch(node: Softmax, site: Site, rows: int, threads: int, blocks: int) -> Launch:
    x, y = site.view(node.x), site.view(node.y)
    if x.shape[-1:] != (node.depth,) or y.shape[-1:] != (node.depth,):
        raise EngineError(f"softmax of {node.depth} runs along no last axis of {x.shape}")
    nest = together(extents(x)[:-1], extents(y)[:-1])
    chunk = min(round_up(node.depth, 4), MOST_TERMS // rows)
    constants: dict[str, Constant] = {
        **nest.constants("X", "Y"),
        "DEPTH": node.depth,
        "ROW_COUNT": nest.count,
        "ROWS": rows,
        "PER_ROW": threads // rows,
        "CHUNK": chunk,
        "PITCH": chunk + 4,
        "SCALE": float(np.float32(node.scale)),
        "ZERO_POINT": node.zero_point,
    }
    moved = nest.count * node.depth
    pointers = x.pointer, site.constant(node.table.astype(np.float32)), y.pointer
    kernel = Kernel("softmax", sorted_constants(constants), threads)
    return Launch(kernel, (blocks, 1, 1), pointers, "softmax", Work(0, moved, moved))
