"""A convolution -> tiles without tensor cores: conv_dp4a, conv_int16, conv_fp32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.convolution_tiled import Needs, TiledProduct
from edgeq.engines.cuda.launch import Constant
from edgeq.engines.cuda.program.nodes import Int8s

WORD = 4  # bytes of K
PADDING = 4  # elements after each row of pixels in shared memory


@dataclass(frozen=True)
class LaneTile:
    """bm pixels x bn channels, tm x tn a thread; a row of K has `row_bytes` of its bytes."""

    bm: int
    bn: int
    tm: int
    tn: int
    bk: int
    row_bytes: int
    splits: int = 1

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return self.bm // self.tm * (self.bn // self.tn)

    @property
    def name(self) -> str:
        """Return what tells it from others."""
        return f"{self.bm}x{self.bn}x{self.bk} t{self.tm}x{self.tn} k{self.splits}"

    def needs(self, gather: Gather) -> Needs:
        """Return what a block takes; a product's instruction is counted with the others."""
        rows, sums = self.bk // self.row_bytes, self.tm * self.tn
        words = (self.bm + self.bn) * self.bk / WORD / self.threads
        copies = (self.bm / gather.unit + self.bn / 16) * self.bk / self.threads
        products = sums if self.row_bytes != 2 else 2 * sums  # instructions, of a row
        return Needs(
            unit="dp4a" if self.row_bytes == WORD else "float",
            registers=42 + int(sums * (2 if self.row_bytes == 1 else 1.1)),
            step_instructions=10
            + rows * (products + (self.tm + self.tn) // 4)
            + words * (1 if self.row_bytes == WORD else 2 * WORD / self.row_bytes),
            copies=copies,
            sums=sums,
            stages=1,
        )

    def shared_bytes(self, gather: Gather) -> int:
        """Return the shared memory of a block, as lane_tile.cuh lays it out."""
        rows = self.bk // self.row_bytes
        return 2 * WORD * rows * (self.bm + PADDING + self.bn) + gather.table_bytes

    def arrange(self, weights: Int8s) -> Int8s:
        """Reorder [OC, K] as [OC / bn, K / bk, bk / 4, bn, 4]."""
        channels, depth = weights.shape
        tiles = weights.reshape(
            channels // self.bn, self.bn, depth // self.bk, self.bk // WORD, WORD
        )
        return np.ascontiguousarray(tiles.transpose(0, 2, 3, 1, 4))

    def constants(self, gather: Gather) -> dict[str, Constant]:
        """Return the macros of lane_tile.cuh."""
        return {"TM": self.tm, "TN": self.tn}


LARGE, MIDDLE, SMALL, LOW, NARROW = (  # bm, bn, tm, tn
    (128, 64, 8, 8),
    (64, 64, 4, 8),
    (64, 32, 4, 4),
    (32, 32, 4, 4),
    (128, 16, 4, 4),
)
DP4A_TILES = tuple(LaneTile(*shape, 32, 4) for shape in (LARGE, MIDDLE, SMALL, LOW, NARROW))
INT16_TILES = tuple(LaneTile(*shape, 16, 2) for shape in (LARGE, MIDDLE, SMALL, LOW, NARROW))
FP32_TILES = tuple(LaneTile(*shape, 16, 1) for shape in (MIDDLE, SMALL, LOW, NARROW))
SPLITS = (1, 2, 4, 8)


def lanes(problem: Problem) -> Iterator[TiledProduct]:
    """Yield the tiles that fit."""
    if problem.site.target.has_dp4a:
        yield from _products(problem, "conv_dp4a", DP4A_TILES)
    else:
        yield from _products(problem, "conv_int16", INT16_TILES)
        yield from _products(problem, "conv_fp32", FP32_TILES)


def _products(
    problem: Problem, template: str, tiles: tuple[LaneTile, ...]
) -> Iterator[TiledProduct]:
    gather = Gather.of(problem, tiles[0].bk)
    if gather is None:
        return
    for tile in tiles:
        for splits in SPLITS:
            product = TiledProduct(problem, gather, replace(tile, splits=splits), template)
            if product.is_sound:
                yield product
