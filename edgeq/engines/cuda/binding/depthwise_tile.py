"""What one thread computes of a depthwise convolution, as depthwise.cuh does, and its cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.convolution_problem import EXACT_ADDITION
from edgeq.engines.cuda.binding.packing import Pixels, padded, round_up
from edgeq.engines.cuda.launch import Constant
from edgeq.engines.cuda.program.nodes import Depthwise, Int8s, Pair, Window

GROUP_STEPS = (2, 4)
LOAD_INSTRUCTIONS = 4  # of four channels of a column: the test of its place, the load
TRANSPOSE_INSTRUCTIONS = 8  # of a group of four columns
FLOAT_INSTRUCTIONS = 2  # to make a float of a byte
STORE_INSTRUCTIONS = 24  # of four channels of an output, through the requantization
OTHER_REGISTERS = 28  # addresses, places, constants


@dataclass(frozen=True)
class Tile:
    """`size` outputs of four channels; groups of four columns begin `group_step` columns apart."""

    size: Pair
    window: Window
    is_dp4a: bool
    load_bytes: int
    group_step: int

    @classmethod
    def of(cls, size: Pair, node: Depthwise, x: Pixels, is_dp4a: bool) -> Tile:
        """Return the tile with the groups that take the fewest instructions."""
        tiles = (cls(size, node.window, is_dp4a, load_bytes(x), step) for step in GROUP_STEPS)
        return min(tiles, key=lambda tile: tile.instructions)

    @property
    def rows(self) -> int:
        """Return the rows of x that the tile sees."""
        return (self.size[0] - 1) * self.window.stride[0] + self.window.size[0]

    @property
    def columns(self) -> int:
        """Return the columns of x that the tile sees."""
        return (self.size[1] - 1) * self.window.stride[1] + self.window.size[1]

    @property
    def instructions(self) -> float:
        """Return the instructions of a thread, the storing of its outputs included."""
        outputs = self.size[0] * self.size[1]
        loads = self.columns * LOAD_INSTRUCTIONS * (4 // self.load_bytes)
        taps = self.size[0] * self.window.size[0]  # rows of them, for the rows of the tile
        if self.is_dp4a:
            prepared = self._group_count * TRANSPOSE_INSTRUCTIONS
            products = 4 * sum(1 for _ in self._words()) * taps
        else:
            prepared = 4 * self.columns * FLOAT_INSTRUCTIONS
            products = 4 * self.size[1] * self.window.size[1] * taps
        return self.rows * (loads + prepared) + products + outputs * STORE_INSTRUCTIONS

    @property
    def registers(self) -> int:
        """Return what a thread holds at once, roughly."""
        sums, width = 4 * self.size[0] * self.size[1], self.window.size[1]
        seen = self._group_count if self.is_dp4a else self.columns
        taps = -(-width // 4) * min(self.size[0], 2) if self.is_dp4a else width
        return OTHER_REGISTERS + sums + 4 * (seen + taps)

    @property
    def _group_count(self) -> int:
        return len({first + part * 4 // self.group_step for first, part in self._words()})

    def _words(self) -> Iterator[tuple[int, int]]:
        """Yield the group that each output begins in, and each word of its taps."""
        for output in range(self.size[1]):
            first, shift = divmod(output * self.window.stride[1], self.group_step)
            for part in range(-(-(shift + self.window.size[1]) // 4)):
                yield first, part

    def constants(self) -> dict[str, Constant]:
        """Return the macros of the tile."""
        return {
            "DP4A": int(self.is_dp4a),
            "TILE_H": self.size[0],
            "TILE_W": self.size[1],
            "GROUP_STEP": self.group_step,
            "LOAD_BYTES": self.load_bytes,
        }

    def packed(self, weights: Int8s) -> npt.NDArray[np.int32] | npt.NDArray[np.float32]:
        """Return the weights as the tile reads them."""
        return packed_words(weights) if self.is_dp4a else packed_floats(weights)


def load_bytes(x: Pixels) -> int:
    """Return how many channels of x can be loaded at once."""
    return 4 if x.alignment >= 4 and x.has_room(round_up(x.channels, 4)) else 1


def window_constants(node: Depthwise, x: Pixels, y: Pair) -> dict[str, Constant]:
    """Return the macros of where x lies and what each pixel of y, of a height and width, sees."""
    window = node.window
    pairs = {
        "STRIDE": window.stride,
        "DILATION": window.dilation,
        "BEFORE": window.before,
        "X": (x.h, x.w),
        "Y": y,
    }
    sides = {f"{name}_{'HW'[s]}": pair[s] for name, pair in pairs.items() for s in (0, 1)}
    own = {"N": x.n, "X_C": x.channels, "X_PITCH": x.pitch, "ZERO_POINT": node.zero_point}
    return {**sides, **own, "KH": window.size[0], "KW": window.size[1]}


def bounds(node: Depthwise) -> dict[str, Constant]:
    """Return which shortcuts of the epilogue are exact, whatever x holds."""
    own = node.epilogue.requantization
    taps = np.abs(node.weights.astype(np.int64)).sum(axis=(0, 1))
    sums = 128 * taps + np.abs(own.bias.astype(np.int64))
    results = sums * own.scale.astype(np.float64)
    return {
        "SUM_IS_SMALL": int(sums.max() < EXACT_ADDITION),
        "RESULT_IS_SMALL": int(results.max() < EXACT_ADDITION - 1),
    }


def packed_words(weights: Int8s) -> npt.NDArray[np.int32]:
    """Return [KH, words of four taps along the width, C] of [KH, KW, C], C padded to fours."""
    height, width, channels = weights.shape
    whole = padded(weights, height, round_up(width, 4), round_up(channels, 4))
    words = whole.reshape(height, -1, 4, whole.shape[-1]).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(words).view(np.int32)[..., 0]


def packed_floats(weights: Int8s) -> npt.NDArray[np.float32]:
    """Return [KH, KW, C] as floats, C padded to fours."""
    height, width, channels = weights.shape
    return padded(weights.astype(np.float32), height, width, round_up(channels, 4))
