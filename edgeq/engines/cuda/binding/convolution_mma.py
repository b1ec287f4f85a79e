"""A convolution -> tiles for the tensor cores: `conv_mma`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.convolution_tiled import Needs, TiledProduct
from edgeq.engines.cuda.binding.packing import round_up
from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.launch import Constant
from edgeq.engines.cuda.nodes import Int8s

CHUNK = 16  # bytes that ldmatrix takes of a row


@dataclass(frozen=True)
class MmaTile:
    """bm pixels x bn channels in warps of wm x wn."""

    bm: int
    bn: int
    wm: int
    wn: int
    bk: int = 64
    stages: int = 3
    splits: int = 1

    @property
    def threads(self) -> int:
        """Return the threads of a block."""
        return self.bm // self.wm * (self.bn // self.wn) * 32

    @property
    def name(self) -> str:
        """Return what tells it from others."""
        return f"{self.bm}x{self.bn}x{self.bk} w{self.wm}x{self.wn} s{self.stages} k{self.splits}"

    @property
    def needs(self) -> Needs:
        """Return what a block takes; the counts are of SASS for sm_87 by NVRTC 12.9."""
        fragments = (self.wm // 16 + self.wn // 16) * self.bk // 32
        copies = (self.bm + self.bn) * self.bk // CHUNK / self.threads
        products = self.wm // 16 * (self.wn // 8) * self.bk // 32
        sums = self.wm * self.wn / 32
        return Needs(
            unit="tensor",
            registers=int(40 + 1.3 * sums + 4 * fragments / (self.bk // 32)),
            step_instructions=15 + products + fragments + 7 * copies,
            end_instructions=150 + 10 * sums,
            stages=self.stages - 1,
        )

    def shared_bytes(self, gather: Gather) -> int:
        """Return the shared memory of a block, as mma_tile.cuh lays it out."""
        stages = self.stages * (self.bm + self.bn) * self.bk
        return max(stages, self.bm * (self.bn + 16)) + 8 * self.bn + gather.table_bytes

    def arrange(self, weights: Int8s) -> Int8s:
        """Reorder [OC, K] as [OC / bn, K / bk, bn, bk], chunks exchanged as `eq_swizzled` does."""
        channels, depth = weights.shape
        chunks = self.bk // CHUNK
        tiles = weights.reshape(channels // self.bn, self.bn, depth // self.bk, chunks, CHUNK)
        rows = np.arange(self.bn)[:, None]
        own = np.arange(chunks)[None, :] ^ (rows // (8 // chunks) % chunks)
        return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3, 4)[:, :, rows, own])

    def constants(self, gather: Gather) -> dict[str, Constant]:
        """Return the macros of mma_tile.cuh."""
        return {
            "WM": self.wm,
            "WN": self.wn,
            "STAGES": self.stages,
            "USED_BK": min(self.bk, round_up(gather.depth, 32)),
            "WIDE": 1,
            "MIN_BLOCKS": 1,
        }


TILES = (
    MmaTile(128, 128, 64, 64),
    MmaTile(128, 64, 64, 32),
    MmaTile(64, 64, 32, 32),
    MmaTile(64, 32, 32, 16),
    MmaTile(32, 64, 16, 32),
    MmaTile(32, 32, 16, 16),
    MmaTile(16, 64, 16, 16),
)
SPLITS = (1, 2, 4, 8)


def mma(problem: Problem) -> Iterator[Choice]:
    """Yield the tiles that fit."""
    gather = Gather.of(problem, 64)
    if gather is None or not problem.site.target.has_wide_mma:
        return
    for tile in TILES:
        for splits in SPLITS:
            product = TiledProduct(problem, gather, replace(tile, splits=splits), "conv_mma")
            if product.is_sound:
                yield product.choice()
