"""A convolution as an implicit matrix product, cut into tiles: what all such kernels share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.packing import round_up
from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.estimating.boards import Unit, board_for
from edgeq.engines.cuda.estimating.cost import FETCH_BYTES_A_CYCLE, Demand, estimate
from edgeq.engines.cuda.estimating.occupancy import limits_of
from edgeq.engines.cuda.launch import Constant, Launch
from edgeq.engines.cuda.program.nodes import Int8s

STATIC_SHARED_BYTES = 48 * 1024  # more must be asked for at the launch
INT_BYTES = 4
LINE_INTS = 32  # of the cache

# Instructions, counted in SASS for sm_87 by NVRTC 12.9.
PROLOGUE = 120  # before the first product
COPY = 7  # of bytes from a table's place, and PLAIN_COPY from the next place
PLAIN_COPY = 3
RESULT = 6  # of a sum that becomes a byte, stored; ADDED for the residual value, LOOK_UP in a table
ADDED = 6
LOOK_UP = 5
L2_SHARE = 0.5  # of the cost model's latency: what steps along K wait for mostly lies in L2
JOINING = 4  # times that a block waits for others when K is split
TIE = 0.05


@dataclass(frozen=True)
class Needs:
    """What the cost model asks of a block's tile; instructions of a thread."""

    unit: Unit
    registers: int  # of a thread
    step_instructions: float  # beside tensor cores' products
    copies: float  # from global memory, of one step
    sums: float  # that go through the epilogue
    stages: int  # of K that are under way at once


class Tile(Protocol):
    """What a block computes: bm pixels x bn channels, bk bytes of K a step, K in `splits` parts."""

    @property
    def bm(self) -> int: ...  # noqa: D102
    @property
    def bn(self) -> int: ...  # noqa: D102
    @property
    def bk(self) -> int: ...  # noqa: D102
    @property
    def splits(self) -> int: ...  # noqa: D102
    @property
    def threads(self) -> int:
        """Return the threads of a block."""

    @property
    def name(self) -> str:
        """Return what tells it from others."""

    def needs(self, gather: Gather) -> Needs:
        """Return what a block takes of a multiprocessor."""

    def shared_bytes(self, gather: Gather) -> int:
        """Return the shared memory of a block, as the kernel lays it out."""

    def arrange(self, weights: Int8s) -> Int8s:
        """Return [OC, K] in the order in which blocks read it."""

    def constants(self, gather: Gather) -> dict[str, Constant]:
        """Return the macros of the kernel's own."""


@dataclass(frozen=True, eq=False)
class TiledProduct:
    """One way to cut a convolution into blocks."""

    problem: Problem
    gather: Gather
    tile: Tile
    template: str

    @property
    def name(self) -> str:
        """Return the choice's name."""
        return f"{self.template} {self.tile.name}"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return the blocks along pixels, channels and K."""
        pixels = -(-self.problem.y.count // self.tile.bm)
        return pixels, -(-self.problem.y.channels // self.tile.bn), self.tile.splits

    @property
    def split_steps(self) -> int:
        """Return the steps along K of one block."""
        return -(-self.gather.steps // self.tile.splits)

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory of a block; splits keep a word beside the rest."""
        return self.tile.shared_bytes(self.gather) + 128 * (self.tile.splits > 1)

    @property
    def is_sound(self) -> bool:
        """Say whether a block fits, and every block of a split has something to do."""
        fits = self.shared_bytes <= limits_of(self.problem.site.target).block_shared_bytes
        return fits and (self.tile.splits - 1) * self.split_steps < self.gather.steps

    @property
    def demand(self) -> Demand:
        """Return what the launch asks of a board."""
        tile, needs, work = self.tile, self.tile.needs(self.gather), self.problem.work
        blocks = self.grid[0] * self.grid[1] * self.grid[2]
        steps, is_split = self.split_steps, tile.splits > 1
        copying = needs.copies * (COPY if self.gather.has_table else PLAIN_COPY)
        ending = needs.sums * self._instructions_a_result
        return Demand(
            blocks=blocks,
            threads=tile.threads,
            moved_bytes=work.read_bytes + work.written_bytes,
            fetched_bytes=blocks * self._block_bytes,
            products=blocks * steps * tile.bm * tile.bn * tile.bk,
            unit=needs.unit,
            instructions=PROLOGUE + steps * (needs.step_instructions + copying) + ending,
            rounds=1 + L2_SHARE * (steps / needs.stages + (JOINING if is_split else 0)),
            registers=needs.registers,
            shared_bytes=self.shared_bytes,
        )

    @property
    def _block_bytes(self) -> float:
        """Return what a block fetches from L2: what windows share, they mostly find in L1."""
        tile, steps = self.tile, self.split_steps
        strides = self.problem.window.stride
        shared = max(1.0, self.problem.taps / (strides[0] * strides[1]) / 2)
        joined = 2 * INT_BYTES * tile.bm * tile.bn if tile.splits > 1 else 0
        return steps * tile.bk * (tile.bm / shared + tile.bn) + joined

    @property
    def _instructions_a_result(self) -> float:
        epilogue = self.problem.ending.epilogue
        return (
            RESULT
            + ADDED * (epilogue.addition is not None)
            + LOOK_UP * (epilogue.table is not None)
        )

    def choice(self) -> Choice:
        """Return it with its estimate: of two bound by the same, less traffic goes first."""
        target, demand = self.problem.site.target, self.demand
        board = board_for(target)
        fetching = demand.fetched_bytes / board.multiprocessors / FETCH_BYTES_A_CYCLE
        tie = TIE * fetching / board.gigahertz / 1e3
        return Choice(self.name, estimate(target, demand).microseconds + tie, self.bind)

    def bind(self) -> tuple[Launch, ...]:
        """Place the weights in the order in which blocks read them."""
        site, tile, grid = self.problem.site, self.tile, self.grid
        weights = site.constant(tile.arrange(self.gather.weights(tile.bn)))
        scratch = weights
        if tile.splits > 1:
            sums = grid[0] * grid[1] * tile.bm * tile.bn
            scratch = site.scratch(INT_BYTES * (self._counters + sums))
        pointers = (weights, self.gather.outside(), scratch)
        dynamic = self.shared_bytes if self._is_dynamic else 0
        launch = self.problem.launch(
            self.template,
            self._constants(),
            tile.threads,
            grid,
            pointers,
            padded_channels=grid[1] * tile.bn,
            dynamic_shared_bytes=dynamic,
        )
        return (launch,)

    @property
    def _is_dynamic(self) -> bool:
        return self.shared_bytes > STATIC_SHARED_BYTES

    @property
    def _counters(self) -> int:
        return round_up(self.grid[0] * self.grid[1], LINE_INTS)

    def _constants(self) -> dict[str, Constant]:
        return {
            **self.gather.constants(),
            **self.tile.constants(self.gather),
            **self.problem.bounds(),
            "BM": self.tile.bm,
            "BN": self.tile.bn,
            "SPLITS": self.tile.splits,
            "SPLIT_STEPS": self.split_steps,
            "SPLIT_SUMS": self._counters,
            "IS_DYNAMIC": int(self._is_dynamic),
        }
