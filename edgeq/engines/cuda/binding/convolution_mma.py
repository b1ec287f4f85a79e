"""A convolution -> tiles for the tensor cores: conv_mma, conv_mma_8816, conv_wmma."""

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
from edgeq.engines.cuda.targets import Target

CHUNK = 16  # bytes that ldmatrix takes of a row


@dataclass(frozen=True)
class MmaTile:
    """bm pixels x bn channels in warps of wm x wn."""

    bm: int
    bn: int
    wm: int
    wn: int
    template: str
    stages: int
    bk: int = 64
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
        return max(stages, self.bm * (self.bn + CHUNK)) + 4 * self.bn + gather.table_bytes

    def arrange(self, weights: Int8s) -> Int8s:
        """Reorder [OC, K] as [OC / bn, K / bk, bn, bk], chunks exchanged as `eq_swizzled` does."""
        chunks = self.bk // CHUNK
        rows = np.arange(self.bn)[:, None]
        own = np.arange(chunks)[None, :] ^ (rows // (8 // chunks) % chunks)
        return np.ascontiguousarray(in_chunks(weights, self.bn, self.bk)[:, :, rows, own])

    def constants(self, gather: Gather) -> dict[str, Constant]:
        """Return the macros of mma_tile.cuh."""
        return {
            "WM": self.wm,
            "WN": self.wn,
            "STAGES": self.stages,
            "USED_BK": min(self.bk, round_up(gather.depth, 32)),
            "WIDE": int(self.template == "conv_mma"),
            "MIN_BLOCKS": 1,
        }


@dataclass(frozen=True)
class WmmaTile(MmaTile):
    """The same through wmma, whose operands lie in planes and whose sums go through ints."""

    def shared_bytes(self, gather: Gather) -> int:
        """Return the shared memory of a block, as conv_wmma.cu lays it out."""
        planes = (self.bm + self.bn + 4) * self.bk
        return max(2 * planes, 4 * self.bm * (self.bn + 8)) + gather.table_bytes

    def arrange(self, weights: Int8s) -> Int8s:
        """Reorder [OC, K] as [OC / bn, K / bk, bk / 16, bn, 16]."""
        chunks = in_chunks(weights, self.bn, self.bk)
        return np.ascontiguousarray(chunks.transpose(0, 1, 3, 2, 4))


def in_chunks(weights: Int8s, rows: int, step: int) -> Int8s:
    """Cut [OC, K] as [OC / rows, K / step, rows, step / 16, 16]."""
    channels, depth = weights.shape
    cut = weights.reshape(channels // rows, rows, depth // step, step // CHUNK, CHUNK)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3, 4))


WARPS = (  # bm, bn, wm, wn
    (128, 128, 64, 64),
    (128, 64, 64, 32),
    (64, 64, 32, 32),
    (64, 32, 32, 16),
    (32, 64, 16, 32),
    (32, 32, 16, 16),
    (16, 64, 16, 16),
)
SPLITS = (1, 2, 4, 8)


def tensor(problem: Problem) -> Iterator[Choice]:
    """Yield the tiles that fit."""
    gather = Gather.of(problem, 64)
    if gather is None:
        return
    for tile in _tiles(problem.site.target):
        for splits in SPLITS:
            product = TiledProduct(problem, gather, replace(tile, splits=splits), tile.template)
            if product.is_sound:
                yield product.choice()


def _tiles(target: Target) -> Iterator[MmaTile]:
    for bm, bn, wm, wn in WARPS:
        if target.has_wide_mma:
            yield MmaTile(bm, bn, wm, wn, "conv_mma", stages=3)
        elif target.has_mma:
            yield MmaTile(bm, bn, wm, wn, "conv_mma_8816", stages=2)
        elif target.has_wmma:
            yield WmmaTile(bm, bn, wm, wn, "conv_wmma", stages=2)
