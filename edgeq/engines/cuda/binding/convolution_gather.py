"""How `gather.cuh` reads a convolution's implicit matrix: in groups of 4, 8 or 16 bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.packing import padded, round_up
from edgeq.engines.cuda.launch import Constant, Pointer
from edgeq.engines.cuda.program.nodes import Int8s

LARGEST_WINDOW = 15  # rows or columns: a bit each
GROUP_BYTES = 8  # of the table in shared memory


@dataclass(frozen=True, eq=False)
class Gather:
    """`unit` bytes at once, `channels` (a multiple of it) of each pixel, `step` bytes a step."""

    problem: Problem
    unit: int
    channels: int
    step: int

    @classmethod
    def of(cls, problem: Problem, step: int, widest: int = 16) -> Gather | None:
        """Return the widest way that the view of x allows, if there is one."""
        if max(problem.window.size) > LARGEST_WINDOW:
            return None
        for unit in (16, 8, 4):
            channels = round_up(problem.x.channels, unit)
            aligned = problem.x.alignment % unit == 0
            if unit <= widest and aligned and problem.x.has_room(channels):
                return cls(problem, unit, channels, step)
        return None

    @property
    def depth(self) -> int:
        """Return the bytes of a row of the matrix, without the padding at its end."""
        return self.problem.taps * self.channels

    @property
    def steps(self) -> int:
        """Return the steps along a row."""
        return -(-self.depth // self.step)

    @property
    def table_bytes(self) -> int:
        """Return the shared memory of the groups' offsets."""
        return GROUP_BYTES * (self.steps * self.step // self.unit if self.has_table else 1)

    @property
    def has_table(self) -> bool:
        """Say whether offsets come from a table: windows of one pixel inside x need none."""
        return self.problem.taps > 1 or self.problem.is_padded

    def constants(self) -> dict[str, Constant]:
        """Return the macros of gather.cuh."""
        return {
            "UNIT": self.unit,
            "X_CP": self.channels,
            "BK": self.step,
            "IS_PADDED": int(self.problem.is_padded),
        }

    def outside(self) -> Pointer:
        """Place the bytes that stand for what lies outside x."""
        return self.problem.site.constant(np.full(16, self.problem.zero_point, np.int8))

    def weights(self, rows: int) -> Int8s:
        """Return [OC in whole `rows`, steps * step], zero where there is no weight."""
        weights = self.problem.weights
        oc, kh, kw, _ = weights.shape
        by_row = padded(weights, oc, kh, kw, self.channels).reshape(oc, self.depth)
        return padded(by_row, round_up(oc, rows), self.steps * self.step)
