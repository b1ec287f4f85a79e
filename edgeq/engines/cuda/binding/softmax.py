"""A Softmax -> the kernels that can carry it out: many short rows together, long ones in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.nest import Nest, extents, power_of_two, together
from edgeq.engines.cuda.binding.packing import round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, View, Work
from edgeq.engines.cuda.program.nodes import Softmax
from edgeq.errors import EngineError

ROWS_OF_A_BLOCK = (1, 4, 32)  # added side by side, each by a lane of one warp
MOST_TERMS = 8192  # float32 of a block in shared memory
MOST_THREADS = 256
ADDITION_CYCLES = 5  # one after the other: the latency of an addition, a fourth of a load
LOOKUP_INSTRUCTIONS = 24  # of an element in all three passes
PIECES = 32  # of a long row: one a lane
CROSSINGS = 7  # pieces that are added one by one, as the sum passes a power of two in them
JOIN_CYCLES = 15  # of a piece
COUNT_CYCLES = 13  # of an element of each piece
BEST = 2


@dataclass(frozen=True)
class Rows:
    """A Softmax where it lies: rows of consecutive bytes."""

    node: Softmax
    site: Site
    x: View
    y: View
    nest: Nest  # of rows

    @classmethod
    def of(cls, node: Softmax, site: Site) -> Rows:
        """Look up the views.

        Raises:
            EngineError: the rows are not the innermost dimension.
        """
        x, y = site.view(node.x), site.view(node.y)
        if x.shape[-1:] != (node.depth,) or y.shape[-1:] != (node.depth,):
            raise EngineError(f"softmax of {node.depth} runs along no last axis of {x.shape}")
        return cls(node, site, x, y, together(extents(x)[:-1], extents(y)[:-1]))

    def choice(
        self, template: str, name: str, demand: Demand, constants: dict[str, Constant]
    ) -> Choice:
        """Return a kernel on so many blocks."""
        own = {
            **self.nest.constants("X", "Y"),
            "DEPTH": self.node.depth,
            "SCALE": float(np.float32(self.node.scale)),
            "ZERO_POINT": self.node.zero_point,
        }
        kernel = Kernel(template, sorted_constants(own | constants), demand.threads)
        moved = self.nest.count * self.node.depth

        def bind() -> tuple[Launch, ...]:
            table = self.site.constant(self.node.table.astype(np.float32))
            pointers = self.x.pointer, table, self.y.pointer
            grid = (demand.blocks, 1, 1)
            return (Launch(kernel, grid, pointers, template, Work(0, moved, moved)),)

        return Choice(name, estimate(self.site.target, demand).microseconds, bind)


def choices(node: Softmax, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a Softmax, best first."""
    rows = Rows.of(node, site)
    found = [_whole(rows, side) for side in ROWS_OF_A_BLOCK if side <= max(rows.nest.count, 1)]
    if PIECES < node.depth <= MOST_TERMS:
        found.append(_in_pieces(rows))
    return tuple(sorted(found, key=lambda choice: choice.microseconds)[:BEST])


def _whole(rows: Rows, side: int) -> Choice:
    """Return the kernel in whose blocks `side` rows are added side by side."""
    depth = rows.node.depth
    threads = min(MOST_THREADS, max(32, side, power_of_two(side * -(-depth // 4))))
    chunk = min(round_up(depth, 4), MOST_TERMS // side)
    demand = Demand(
        blocks=-(-rows.nest.count // side),
        threads=threads,
        moved_bytes=2 * rows.nest.count * depth,
        instructions=ADDITION_CYCLES * depth + side * depth / threads * LOOKUP_INSTRUCTIONS,
        rounds=2,
        shared_bytes=1024 + side * (chunk + 4) * 4 + 4 * threads,
    )
    return rows.choice("softmax", f"softmax r{side}", demand, {
        "ROW_COUNT": rows.nest.count,
        "ROWS": side,
        "PER_ROW": threads // side,
        "CHUNK": chunk,
        "PITCH": chunk + 4,
    })  # fmt: skip


def _in_pieces(rows: Rows) -> Choice:
    """Return the kernel that puts the sum of a long row together from pieces."""
    depth = rows.node.depth
    piece = round_up(-(-depth // PIECES), 4)
    demand = Demand(
        blocks=rows.nest.count,
        threads=MOST_THREADS,
        moved_bytes=2 * rows.nest.count * depth,
        instructions=cycles_in_pieces(depth) + depth / MOST_THREADS * LOOKUP_INSTRUCTIONS,
        rounds=2,
        shared_bytes=2048 + PIECES * (piece + 4) * 4 + 4 * MOST_THREADS,
    )
    constants: dict[str, Constant] = {"PIECE": piece, "PIECES": PIECES}
    return rows.choice("softmax_pieces", f"softmax_pieces {piece}", demand, constants)


def cycles_in_pieces(depth: int) -> float:
    """Return how long the sum of a long row takes that is put together from pieces."""
    piece = round_up(-(-depth // PIECES), 4)
    return PIECES * JOIN_CYCLES + piece * (COUNT_CYCLES + CROSSINGS * ADDITION_CYCLES)
