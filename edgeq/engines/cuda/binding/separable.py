"""A depthwise convolution and the 1 x 1 convolution after it -> the kernels that do both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.convolution_mma import CHUNK, in_chunks
from edgeq.engines.cuda.binding.depthwise_tile import (
    Tile,
    bounds,
    packed_words,
    window_constants,
)
from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up, sorted_constants
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.estimating.cost import Demand, estimate
from edgeq.engines.cuda.estimating.occupancy import limits_of
from edgeq.engines.cuda.launch import Constant, Kernel, Launch, Pointer, Work
from edgeq.engines.cuda.program.nodes import Convolution, Depthwise, Int8s

STEP = 64  # bytes of K that are multiplied at once
STAGES = 3
STATIC_SHARED_BYTES = 48 * 1024  # more must be asked for at the launch
STRIPS = (2, 4, 8)  # pixels side by side that a thread computes
LARGEST_KERNEL_TAPS = 49
BEST = 6


@dataclass(frozen=True)
class Shape:
    """A block's bm pixels x bn channels of y, in warps of wm x wn."""

    bm: int
    bn: int
    wm: int
    wn: int

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return self.bm // self.wm * (self.bn // self.wn) * 32


SHAPES = (
    Shape(128, 64, 32, 32),
    Shape(64, 128, 32, 32),
    Shape(64, 64, 32, 16),
    Shape(64, 32, 16, 16),
    Shape(32, 128, 16, 32),
    Shape(32, 64, 16, 16),
    Shape(32, 32, 16, 16),
    Shape(16, 128, 16, 16),
    Shape(16, 64, 16, 16),
)


@dataclass(frozen=True, eq=False)
class Case:
    """The two convolutions where x and y lie."""

    depthwise: Depthwise
    pointwise: Convolution
    site: Site
    x: Pixels
    ending: Ending

    @property
    def y(self) -> Pixels:
        """Return where the result lies."""
        return self.ending.y

    @property
    def steps(self) -> int:
        """Return the steps along K."""
        return -(-self.x.channels // STEP)

    @property
    def work(self) -> Work:
        """Return the least that has to be computed and moved."""
        taps, weights = self.depthwise.weights, self.pointwise.weights
        middle = taps.size * self.y.count
        read = self.x.bytes + taps.size + weights.size + self.ending.read_bytes
        return Work(middle + self.y.count * weights.size, read, self.y.bytes)


def choices(depthwise: Depthwise, pointwise: Convolution, site: Site) -> tuple[Choice, ...]:
    """Return the likeliest of the fused kernels, best first by estimate."""
    found = sorted(candidates(depthwise, pointwise, site), key=lambda choice: choice.microseconds)
    return tuple(found[:BEST])


def candidates(depthwise: Depthwise, pointwise: Convolution, site: Site) -> Iterator[Choice]:
    """Yield every fused kernel; none where the target lacks the means."""
    window = depthwise.window
    taps = window.size[0] * window.size[1]
    if not site.target.has_wide_mma or max(window.dilation) > 1 or taps > LARGEST_KERNEL_TAPS:
        return
    ending = Ending.of(site, pointwise.epilogue, pointwise.y)
    case = Case(depthwise, pointwise, site, Pixels.of(site.view(depthwise.x)), ending)
    most = limits_of(site.target).block_shared_bytes
    for shape in SHAPES:
        for strip in STRIPS:
            block = Block(case, shape, strip)
            fits = block.shared_bytes <= most and strip < 2 * case.y.w
            if fits and shape.bn < 2 * round_up(case.y.channels, 32):
                yield block.choice()


@dataclass(frozen=True, eq=False)
class Block:
    """One way to cut the result into blocks, and the depthwise part into strips."""

    case: Case
    shape: Shape
    strip: int

    @property
    def strips(self) -> int:
        """Return the strips of a row of y."""
        return -(-self.case.y.w // self.strip)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Return the blocks along pixels and channels."""
        pixels = self.case.y.n * self.case.y.h * self.strips * self.strip
        return -(-pixels // self.shape.bm), -(-self.case.y.channels // self.shape.bn), 1

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory of a block, as the kernel lays it out."""
        rows, stream = self.case.steps * self.shape.bm, STAGES * self.shape.bn
        results = self.shape.bm * (self.shape.bn + CHUNK)
        return max((rows + stream) * STEP, results) + 8 * self.shape.bn

    @property
    def tile(self) -> Tile:
        """Return how a thread computes a strip."""
        return Tile.of((1, self.strip), self.case.depthwise, self.case.x, is_dp4a=True)

    def choice(self) -> Choice:
        """Return it with its estimate."""
        s, found = self.shape, estimate(self.case.site.target, self.demand)
        name = f"separable_mma {s.bm}x{s.bn} w{s.wm}x{s.wn} strip{self.strip}"
        return Choice(name, found.microseconds, self.bind)

    @property
    def demand(self) -> Demand:
        """Return what the launch asks of a board."""
        case, shape = self.case, self.shape
        blocks = self.grid[0] * self.grid[1]
        quads = -(-case.x.channels // 4)
        turns = -(-shape.bm // self.strip * quads // shape.threads)
        step = 30 + shape.wm * shape.wn // 128 * 3
        sums = shape.wm * shape.wn // 32
        seen = shape.bm // self.strip * quads * 4 * self.tile.columns  # of x; the rest from L1
        return Demand(
            blocks=blocks,
            threads=shape.threads,
            moved_bytes=case.work.read_bytes + case.work.written_bytes,
            fetched_bytes=blocks * (case.steps * STEP * shape.bn + seen),
            products=blocks * shape.bm * shape.bn * case.steps * STEP,
            instructions=turns * self.tile.instructions + case.steps * step + 10 * sums + 150,
            rounds=1 + turns + -(-case.steps // STAGES) / 2,
            registers=96,
            shared_bytes=self.shared_bytes,
        )

    def bind(self) -> tuple[Launch, ...]:
        """Place both convolutions' constants."""
        case, shape = self.case, self.shape
        is_dynamic = self.shared_bytes > STATIC_SHARED_BYTES
        constants = sorted_constants({**self._constants(), "IS_DYNAMIC": int(is_dynamic)})
        dynamic = self.shared_bytes if is_dynamic else 0
        kernel = Kernel("separable_mma", constants, shape.threads, dynamic)
        weights = case.site.constant(stepped(case.pointwise.weights, shape.bn))
        ending = case.ending.pointers(case.site, self.grid[1] * shape.bn)
        pointers = (case.x.pointer, *self._middle(), weights, *ending, case.y.pointer)
        label = case.site.value(case.pointwise.y).name
        return (Launch(kernel, self.grid, pointers, label, case.work),)

    def _middle(self) -> tuple[Pointer, ...]:
        """Place what the depthwise part reads beside x."""
        site, node = self.case.site, self.case.depthwise
        own, table = node.epilogue.requantization, node.epilogue.table
        channels = round_up(self.case.x.channels, 4)
        taps = site.constant(packed_words(node.weights))
        bias = site.constant(padded(own.bias.astype(np.int32), channels))
        scale = site.constant(padded(own.scale.astype(np.float32), channels))
        return taps, bias, scale, bias if table is None else site.constant(table)

    def _constants(self) -> dict[str, Constant]:
        case, shape = self.case, self.shape
        own = case.depthwise.epilogue.requantization
        return {
            **window_constants(case.depthwise, case.x, (case.y.h, case.y.w)),
            **case.ending.constants(),
            **self.tile.constants(),
            "MIDDLE_ZERO_POINT": own.zero_point,
            "MIDDLE_LOW": own.low,
            "MIDDLE_HIGH": own.high,
            **{f"MIDDLE_{name}": value for name, value in bounds(case.depthwise).items()},
            "MIDDLE_TABLE": int(case.depthwise.epilogue.table is not None),
            "STRIPS": self.strips,
            "PIXELS": case.y.n * case.y.h * self.strips * self.strip,
            "BM": shape.bm,
            "BN": shape.bn,
            "WM": shape.wm,
            "WN": shape.wn,
            "BK": STEP,
            "USED_BK": min(STEP, round_up(case.x.channels, 32)),
            "STAGES": STAGES,
            "WIDE": 1,
        }


def stepped(weights: Int8s, rows: int) -> Int8s:
    """Return [OC / rows, steps, rows, STEP] of [OC, 1, 1, C], chunks exchanged as `eq_swizzled`."""
    channels, _, _, depth = weights.shape
    whole = padded(
        weights.reshape(channels, depth), round_up(channels, rows), round_up(depth, STEP)
    )
    count = STEP // CHUNK
    row = np.arange(rows)[:, None]
    own = np.arange(count)[None, :] ^ (row // (8 // count) % count)
    return np.ascontiguousarray(in_chunks(whole, rows, STEP)[:, :, row, own])
