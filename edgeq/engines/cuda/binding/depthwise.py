"""A Depthwise -> the kernels that can carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from edgeq.engines.cuda.binding.depthwise_tile import Tile, bounds, window_constants
from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.packing import Pixels, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, Work
from edgeq.engines.cuda.program.nodes import Depthwise, Pair

THREADS = 128
DIRECT_INSTRUCTIONS_PER_TAP = 12
LARGEST_KERNEL_TAPS = 64  # that the unrolled kernel's code is good for
MOST_REGISTERS = 100
TILES: tuple[Pair, ...] = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 4))


@dataclass(frozen=True, eq=False)
class Case:
    """A Depthwise where it lies."""

    node: Depthwise
    site: Site
    x: Pixels
    ending: Ending

    @classmethod
    def of(cls, node: Depthwise, site: Site) -> Case:
        """Look up the views."""
        ending = Ending.of(site, node.epilogue, node.y)
        return cls(node, site, Pixels.of(site.view(node.x)), ending)

    @property
    def multiplier(self) -> int:
        """Return the output channels of each input channel."""
        return int(self.node.weights.shape[-1]) // self.x.channels

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        y, taps = self.ending.y, self.node.weights
        read = self.x.bytes + taps.size + self.ending.read_bytes
        return Work(y.bytes * taps.shape[0] * taps.shape[1], read, y.bytes)

    def launch(
        self, template: str, constants: dict[str, Constant], threads: int, weights: Pointer
    ) -> tuple[Launch, ...]:
        """Return the one launch over so many threads in all."""
        y = self.ending.y
        common = {**window_constants(self.node, self.x, (y.h, y.w)), **self.ending.constants()}
        kernel = Kernel(template, sorted_constants({**common, **constants}), THREADS)
        ending = self.ending.pointers(self.site, round_up(y.channels, 4))
        pointers = (self.x.pointer, weights, *ending, y.pointer)
        label = self.site.value(self.node.y).name
        return (Launch(kernel, (-(-threads // THREADS), 1, 1), pointers, label, self.work),)

    def estimate(
        self, threads: int, instructions: float, rounds: float, fetched: float, registers: int
    ) -> float:
        """Return microseconds of so many threads."""
        demand = Demand(
            blocks=-(-threads // THREADS),
            threads=THREADS,
            moved_bytes=self.work.read_bytes + self.work.written_bytes,
            fetched_bytes=fetched,
            instructions=instructions,
            rounds=rounds,
            registers=registers,
        )
        return estimate(self.site.target, demand).microseconds


def choices(node: Depthwise, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a depthwise convolution, best first."""
    case = Case.of(node, site)
    tiled = (_tiled(case, size) for size in TILES) if _fits_tiles(case) else ()
    found = [choice for choice in tiled if choice is not None]
    return (*sorted(found, key=lambda choice: choice.microseconds), _direct(case))


def _direct(case: Case) -> Choice:
    threads, taps = case.ending.y.bytes, case.node.weights.shape[0] * case.node.weights.shape[1]
    instructions = taps * DIRECT_INSTRUCTIONS_PER_TAP
    estimated = case.estimate(threads, instructions, taps, 2 * taps * threads, registers=40)
    return Choice("depthwise_direct", estimated, partial(_bind_direct, case, threads))


def _bind_direct(case: Case, threads: int) -> tuple[Launch, ...]:
    weights = case.site.constant(case.node.weights)
    return case.launch("depthwise_direct", {"MULTIPLIER": case.multiplier}, threads, weights)


def _fits_tiles(case: Case) -> bool:
    window = case.node.window
    both = any(d > 1 and s > 1 for d, s in zip(window.dilation, window.stride, strict=True))
    taps = window.size[0] * window.size[1]
    return case.multiplier == 1 and not both and taps <= LARGEST_KERNEL_TAPS


def _tiled(case: Case, size: Pair) -> Choice | None:
    """Return the choice of a tile that is not much larger than y and stays in registers."""
    y = case.ending.y
    if (size[0] > 1 and size[0] >= 2 * y.h) or (size[1] > 1 and size[1] >= 2 * y.w):
        return None
    tile = Tile.of(size, case.node, case.x, case.site.target.has_dp4a)
    if tile.registers > MOST_REGISTERS:
        return None
    quads = -(-case.x.channels // 4)
    threads = case.x.n * _tiles(case, 0, size[0]) * _tiles(case, 1, size[1]) * quads
    fetched = 4 * threads * tile.columns * tile.rows / case.node.window.size[0]  # the rest from L1
    estimated = case.estimate(threads, tile.instructions, 2, fetched, tile.registers)
    name = f"depthwise_tiled {size[0]}x{size[1]}"
    return Choice(name, estimated, partial(_bind_tiled, case, tile, threads))


def _tiles(case: Case, side: int, size: int) -> int:
    """Return how many tiles cover y: with dilation a tile's outputs lie a dilation apart."""
    window = case.node.window
    step = window.dilation[side] if window.stride[side] == 1 else 1
    extent = (case.ending.y.h, case.ending.y.w)[side]
    return step * -(-extent // (step * size))


def _bind_tiled(case: Case, tile: Tile, threads: int) -> tuple[Launch, ...]:
    own = {**tile.constants(), **bounds(case.node)}
    weights = case.site.constant(tile.packed(case.node.weights))
    return case.launch("depthwise_tiled", own, threads, weights)
