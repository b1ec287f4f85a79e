"""A convolution -> implicit matrix products on the tensor cores: `conv_mma`, tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.packing import round_up
from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.launch import Constant, Launch
from edgeq.engines.cuda.nodes import Int8s

STATIC_SHARED_BYTES = 48 * 1024  # more must be asked for at the launch
CHUNK = 16  # bytes that ldmatrix takes of a row
INT_BYTES = 4


@dataclass(frozen=True)
class Tile:
    """What a block computes: bm pixels x bn channels, in warps of wm x wn, bk bytes of K a step."""

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

    def shared_bytes(self, gather: Gather) -> int:
        """Return the shared memory of a block, as mma_tile.cuh lays it out."""
        stages = self.stages * (self.bm + self.bn) * self.bk
        return max(stages, self.bm * (self.bn + 16)) + 8 * self.bn + gather.table_bytes


@dataclass(frozen=True, eq=False)
class TiledProduct:
    """One way to cut a convolution into blocks."""

    problem: Problem
    gather: Gather
    tile: Tile
    template: str = "conv_mma"

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
    def is_sound(self) -> bool:
        """Say whether every block of a split has something to do."""
        return (self.tile.splits - 1) * self.split_steps < self.gather.steps

    @property
    def shared_bytes(self) -> int:
        """Return the shared memory of a block."""
        return self.tile.shared_bytes(self.gather)

    def bind(self) -> tuple[Launch, ...]:
        """Place the weights in the order in which blocks read them."""
        site, tile, grid = self.problem.site, self.tile, self.grid
        weights = site.constant(tiled_weights(self.gather.weights(tile.bn), tile))
        scratch = weights
        if tile.splits > 1:
            sums = grid[0] * grid[1] * tile.bm * tile.bn
            scratch = site.scratch(INT_BYTES * (self._counters + sums))
        pointers = (weights, self.gather.outside(), scratch)
        dynamic = self.shared_bytes if self._is_dynamic else 0
        channels = grid[1] * tile.bn
        return (
            self.problem.launch(
                self.template, self._constants(), tile.threads, grid, pointers, channels, dynamic
            ),
        )

    @property
    def _is_dynamic(self) -> bool:
        return self.shared_bytes > STATIC_SHARED_BYTES - 16  # split-K keeps a word beside it

    @property
    def _counters(self) -> int:
        """Return the counters of tiles, in whole lines of the cache."""
        return round_up(self.grid[0] * self.grid[1], 32)

    def _constants(self) -> dict[str, Constant]:
        tile, depth = self.tile, self.gather.depth
        return {
            **self.gather.constants(),
            "BM": tile.bm,
            "BN": tile.bn,
            "WM": tile.wm,
            "WN": tile.wn,
            "STAGES": tile.stages,
            "SPLITS": tile.splits,
            "SPLIT_STEPS": self.split_steps,
            "SPLIT_SUMS": self._counters,
            "USED_BK": min(tile.bk, round_up(depth, 32)),
            "WIDE": 1,
            "MIN_BLOCKS": 1,
            "IS_DYNAMIC": int(self._is_dynamic),
        }


def tiled_weights(weights: Int8s, tile: Tile) -> Int8s:
    """Reorder [OC, K] as [OC / bn, K / bk, bn, bk], chunks exchanged as `eq_swizzled` does."""
    channels, depth = weights.shape
    chunks = tile.bk // CHUNK
    tiles = weights.reshape(channels // tile.bn, tile.bn, depth // tile.bk, chunks, CHUNK)
    rows = np.arange(tile.bn)[:, None]
    own = np.arange(chunks)[None, :] ^ (rows // (8 // chunks) % chunks)
    return np.ascontiguousarray(tiles.transpose(0, 2, 1, 3, 4)[:, :, rows, own])


TILES = (
    Tile(128, 128, 64, 64),
    Tile(128, 64, 64, 32),
    Tile(64, 64, 32, 32),
    Tile(64, 32, 32, 16),
    Tile(32, 64, 16, 32),
    Tile(32, 32, 16, 16),
    Tile(16, 64, 16, 16),
)
SPLITS = (1, 2, 4, 8)


def mma(problem: Problem) -> Iterator[Choice]:
    """Yield the tiles that fit."""
    gather = Gather.of(problem, 64)
    if gather is None or not problem.site.target.has_wide_mma:
        return
    for tile in TILES:
        for splits in SPLITS:
            product = TiledProduct(problem, gather, replace(tile, splits=splits))
            if product.is_sound:
                yield Choice(product.name, 1.0, product.bind)
