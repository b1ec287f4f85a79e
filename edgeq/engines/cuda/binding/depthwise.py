"""A Depthwise -> the kernels that can carry it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.estimate import microseconds
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, Work
from edgeq.engines.cuda.nodes import Depthwise, Pair

THREADS = 128
DIRECT_INSTRUCTIONS_PER_TAP = 12
LOAD_INSTRUCTIONS = 4  # of four channels of a column: the test of its place, the load
STORE_INSTRUCTIONS = 48  # of four channels of an output
TRANSPOSE_INSTRUCTIONS = 8
LARGEST_KERNEL_TAPS = 64  # that the unrolled kernel's code is good for
REGISTERS = 72  # that a tile's sums, columns and taps may take beside addresses
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
    def load_bytes(self) -> int:
        """Return how many channels of x can be loaded at once."""
        whole = self.x.has_room(round_up(self.x.channels, 4))
        return 4 if self.x.alignment >= 4 and whole else 1

    @property
    def multiplier(self) -> int:
        """Return the output channels of each input channel."""
        return int(self.node.weights.shape[-1]) // self.x.channels

    def constants(self) -> dict[str, Constant]:
        """Return what every depthwise kernel is specialized by."""
        window, x, y = self.node.window, self.x, self.ending.y
        pairs = {
            "STRIDE": window.stride,
            "DILATION": window.dilation,
            "BEFORE": window.before,
            "X": (x.h, x.w),
            "Y": (y.h, y.w),
        }
        sides = {f"{name}_{side}": pair[s] for name, pair in pairs.items() for s, side in _SIDES}
        own = {"N": x.n, "X_C": x.channels, "X_PITCH": x.pitch, "ZERO_POINT": self.node.zero_point}
        return {
            **sides,
            **own,
            "KH": window.size[0],
            "KW": window.size[1],
            **self.ending.constants(),
        }

    def launch(
        self, template: str, constants: dict[str, Constant], threads: int, weights: Pointer
    ) -> tuple[Launch, ...]:
        """Return the one launch over so many threads in all."""
        kernel = Kernel(template, sorted_constants({**self.constants(), **constants}), THREADS)
        ending = self.ending.pointers(self.site, round_up(self.ending.y.channels, 4))
        pointers = (self.x.pointer, weights, *ending, self.ending.y.pointer)
        grid = (-(-threads // THREADS), 1, 1)
        return (Launch(kernel, grid, pointers, "depthwise", self.work()),)

    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        y, taps = self.ending.y, self.node.weights
        read = self.x.bytes + taps.size + self.ending.read_bytes
        return Work(y.bytes * taps.shape[0] * taps.shape[1], read, y.bytes)

    def estimate(self, threads: int, instructions: float, rounds: int) -> float:
        """Return microseconds of so many threads."""
        work = self.work()
        moved = work.read_bytes + work.written_bytes
        return microseconds(self.site.target, threads, instructions, moved, rounds)


_SIDES = ((0, "H"), (1, "W"))


def choices(node: Depthwise, site: Site) -> tuple[Choice, ...]:
    """Return the ways to carry out a depthwise convolution, best first."""
    case = Case.of(node, site)
    tiled = (_tiled(case, tile) for tile in TILES) if _fits_tiles(case) else ()
    found = [choice for choice in tiled if choice is not None]
    return (*sorted(found, key=lambda choice: choice.microseconds), _direct(case))


def _direct(case: Case) -> Choice:
    threads = case.ending.y.bytes
    taps = case.node.weights.shape[0] * case.node.weights.shape[1]
    estimate = case.estimate(threads, taps * DIRECT_INSTRUCTIONS_PER_TAP, taps)
    return Choice("depthwise_direct", estimate, partial(_bind_direct, case, threads))


def _bind_direct(case: Case, threads: int) -> tuple[Launch, ...]:
    weights = case.site.constant(case.node.weights)
    own: dict[str, Constant] = {"MULTIPLIER": case.multiplier}
    return case.launch("depthwise_direct", own, threads, weights)


# ---- several outputs of four channels a thread


@dataclass(frozen=True)
class Tile:
    """The outputs of a thread, and how their columns are grouped for dp4a."""

    size: Pair
    group_step: int  # 2 or 4 columns from one group of four to the next
    group_count: int
    dot_products: int  # of a row of the tile in a row of taps, for each channel


def _fits_tiles(case: Case) -> bool:
    window = case.node.window
    dilated = [d > 1 for d in window.dilation]
    strided = [s > 1 for s in window.stride]
    taps = window.size[0] * window.size[1]
    both = any(d and s for d, s in zip(dilated, strided, strict=True))
    return case.multiplier == 1 and not both and taps <= LARGEST_KERNEL_TAPS


def _tiled(case: Case, size: Pair) -> Choice | None:
    """Return the choice of a tile that is not larger than y and stays in registers."""
    window, y = case.node.window, case.ending.y
    if (size[0] > 1 and size[0] >= 2 * y.h) or (size[1] > 1 and size[1] >= 2 * y.w):
        return None
    tile = min((_grouped(size, step, case) for step in (2, 4)), key=partial(_row_cost, case))
    if _registers(case, tile) > REGISTERS:
        return None
    threads = case.x.n * _tiles(case, 0, size[0]) * _tiles(case, 1, size[1])
    threads *= -(-case.x.channels // 4)
    rows = (size[0] - 1) * window.stride[0] + window.size[0]
    instructions = rows * _row_cost(case, tile) + size[0] * size[1] * STORE_INSTRUCTIONS
    estimate = case.estimate(threads, instructions, 2)
    name = f"depthwise_tiled {size[0]}x{size[1]}"
    return Choice(name, estimate, partial(_bind_tiled, case, tile, threads))


def _tiles(case: Case, side: int, size: int) -> int:
    """Return how many tiles cover y: with dilation a tile's outputs lie a dilation apart."""
    window = case.node.window
    step = window.dilation[side] if window.stride[side] == 1 else 1
    extent = (case.ending.y.h, case.ending.y.w)[side]
    return step * -(-extent // (step * size))


def _grouped(size: Pair, step: int, case: Case) -> Tile:
    """Say what a tile takes with groups of four columns that begin `step` columns apart."""
    stride, width = case.node.window.stride[1], case.node.window.size[1]
    used: set[int] = set()
    dot_products = 0
    for first, part in _parts(size[1], stride, width, step):
        used.add(first + part * 4 // step)
        dot_products += 1
    return Tile(size, step, len(used), dot_products)


def _parts(outputs: int, stride: int, width: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield the group that each output begins in, and each word of its taps, as the kernel does."""
    for output in range(outputs):
        first, shift = divmod(output * stride, step)
        for part in range(-(-(shift + width) // 4)):
            yield first, part


def _row_cost(case: Case, tile: Tile) -> float:
    """Return the instructions of a thread for one row of x."""
    columns = (tile.size[1] - 1) * case.node.window.stride[1] + case.node.window.size[1]
    loads = columns * LOAD_INSTRUCTIONS * (1 if case.load_bytes == 4 else 4)
    if case.site.target.has_dp4a:
        transposes = tile.group_count * TRANSPOSE_INSTRUCTIONS
        return loads + transposes + 4 * tile.dot_products * _rows_of_taps(case, tile)
    products = tile.size[1] * case.node.window.size[1] * _rows_of_taps(case, tile)
    return loads + 4 * (2 * columns + products)


def _rows_of_taps(case: Case, tile: Tile) -> float:
    """Return how many rows of the tile one row of x counts for, on average."""
    window = case.node.window
    rows = (tile.size[0] - 1) * window.stride[0] + window.size[0]
    return tile.size[0] * window.size[0] / rows


def _registers(case: Case, tile: Tile) -> int:
    width, stride = case.node.window.size[1], case.node.window.stride[1]
    sums = 4 * tile.size[0] * tile.size[1]
    if case.site.target.has_dp4a:
        return sums + 4 * tile.group_count + 4 * -(-width // 4) * min(tile.size[0], 2)
    return sums + 4 * ((tile.size[1] - 1) * stride + width) + 4 * width


def _bind_tiled(case: Case, tile: Tile, threads: int) -> tuple[Launch, ...]:
    dp4a = case.site.target.has_dp4a
    pack = packed_words if dp4a else packed_floats
    own: dict[str, Constant] = {
        "DP4A": int(dp4a),
        "TILE_H": tile.size[0],
        "TILE_W": tile.size[1],
        "GROUP_STEP": tile.group_step,
        "LOAD_BYTES": case.load_bytes,
        "STORE_BYTES": min(case.ending.vector, 4),
    }
    weights = case.site.constant(pack(case.node.weights))
    return case.launch("depthwise_tiled", own, threads, weights)


def packed_words(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Return [KH, words of four taps along the width, C] of [KH, KW, C], C padded to fours."""
    height, width, channels = weights.shape
    whole = padded(weights, height, round_up(width, 4), round_up(channels, 4))
    words = whole.reshape(height, -1, 4, whole.shape[-1]).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(words).view(np.int32)[..., 0]


def packed_floats(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """Return [KH, KW, C] as floats, C padded to fours."""
    height, width, channels = weights.shape
    return padded(weights.astype(np.float32), height, width, round_up(channels, 4))
