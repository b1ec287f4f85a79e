"""A convolution -> tiles for the tensor cores: conv_mma, conv_mma_8816, conv_wmma."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.convolution_tiled import Needs, TiledProduct
from edgeq.engines.cuda.binding.packing import round_up
from edgeq.engines.cuda.launch import Constant
from edgeq.engines.cuda.program.nodes import Int8s
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

    def needs(self, gather: Gather) -> Needs:
        """Return what a block takes."""
        parts = self.bk // 32
        fragments = self.wm // 16 + self.wn // 16
        products = self.wm // 16 * (self.wn // 8)
        sums = self.wm * self.wn / 32
        narrow = 1 if self.template == "conv_mma" else 4
        return Needs(
            unit="tensor",
            registers=int(32 + 1.1 * sums + 4 * fragments),
            step_instructions=15 + parts * (narrow * products + fragments),
            copies=(self.bm / gather.unit + self.bn / CHUNK) * self.bk / self.threads,
            sums=sums,
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


SHAPES = (  # bm, bn, wm, wn
    (128, 256, 64, 64),
    (128, 128, 64, 64),
    (64, 128, 32, 64),
    (128, 96, 64, 48),
    (128, 64, 64, 32),
    (64, 64, 32, 32),
    (128, 48, 32, 48),
    (128, 32, 32, 32),
    (64, 32, 32, 16),
    (32, 64, 16, 32),
    (32, 32, 16, 16),
    (128, 16, 32, 16),
    (16, 128, 16, 32),
    (16, 64, 16, 16),
)
ASYNCHRONOUS = ((64, 3), (64, 6), (128, 4))  # bytes of K a step, stages
STAGED = ((64, 2),)  # through registers
SHALLOW = 32  # bytes of K that are one product of the tensor cores
SPLITS = (1, 2, 4, 8)
DEEP = 4  # steps from which on the longer ones are tried


def tensor(problem: Problem) -> Iterator[TiledProduct]:
    """Yield the tiles that fit."""
    target = problem.site.target
    for gather, stages in _pipelines(problem):
        for shape in SHAPES:
            tile = _tile(target, shape, gather.step, stages)
            if tile is None:
                return
            for splits in SPLITS:
                product = TiledProduct(problem, gather, replace(tile, splits=splits), tile.template)
                if product.is_sound:
                    yield product


def _pipelines(problem: Problem) -> Iterator[tuple[Gather, int]]:
    """Yield ways to step along K, and stages: no longer steps and no more stages than K fills."""
    given = ASYNCHRONOUS if problem.site.target.has_wide_mma else STAGED
    known = set[tuple[int, int]]()
    for step, most in given:
        gather = Gather.of(problem, step)
        if gather is None or (step > 64 and gather.steps < DEEP):
            continue
        if gather.depth <= SHALLOW:
            gather = replace(gather, step=SHALLOW)
        stages = min(most, gather.steps + 1)
        if (gather.step, stages) not in known:
            known.add((gather.step, stages))
            yield gather, stages


def _tile(
    target: Target, shape: tuple[int, int, int, int], step: int, stages: int
) -> MmaTile | None:
    if target.has_wide_mma:
        return MmaTile(*shape, "conv_mma", stages, step)
    if target.has_mma:
        return MmaTile(*shape, "conv_mma_8816", stages, step)
    return WmmaTile(*shape, "conv_wmma", stages, step) if target.has_wmma else None
