"""A GPU -> what it can do at most: multiprocessors, clocks, memory, products a cycle.

The figures are those of NVIDIA's data sheets and of the CUDA programming guide's throughput table;
none was measured here. They put choices in order and say how far from the peak a layer is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edgeq.engines.cuda.targets import Target

Unit = Literal["tensor", "dp4a", "float"]  # what multiplies: tensor cores, dp4a, fused float32

# int8 multiply-accumulates of a multiprocessor in a cycle, dense: the first row whose
# architecture is at least the target's. From sm_90 on mma.sync reaches only a part of what the
# newer instructions do (0.6 measured on Hopper, arXiv 2402.13499; assumed beyond).
_TENSOR = {
    72: 1024,
    75: 1024,
    80: 2048,
    86: 1024,
    87: 2048,
    89: 1024,
    90: 4096,
    110: 8192,
    121: 1024,
}
_MMA_SYNC_SHARE = {90: 0.6, 110: 0.3}


@dataclass(frozen=True)
class Board:
    """One GPU, or the usual one of an architecture."""

    name: str
    target: Target
    multiprocessors: int
    gigahertz: float
    gigabytes_per_s: float  # of DRAM

    def products_a_cycle(self, unit: Unit) -> float:
        """Return the int8 multiply-accumulates of one multiprocessor in one cycle, through mma."""
        sm = self.target.sm
        if unit == "tensor":
            return _of(_TENSOR, sm) * _MMA_SYNC_SHARE.get(_row(_TENSOR, sm), 1.0)
        if unit == "dp4a":
            return (128 if sm < 70 else 64) * 4.0
        return 64.0 if sm in (70, 72, 75, 80) else 128.0

    def best_unit(self) -> Unit:
        """Return what multiplies int8 fastest here."""
        if self.target.has_wmma:
            return "tensor"
        return "dp4a" if self.target.has_dp4a else "float"

    @property
    def int8_tops(self) -> float:
        """Return the data sheet's dense peak in 10^12 operations a second, two to a product."""
        unit = self.best_unit()
        rate = _of(_TENSOR, self.target.sm) if unit == "tensor" else self.products_a_cycle(unit)
        return 2e-3 * rate * self.multiprocessors * self.gigahertz


def _of(table: Mapping[int, float], sm: int) -> float:
    return table[_row(table, sm)]


def _row(table: Mapping[int, float], sm: int) -> int:
    return next((row for row in table if sm <= row), max(table))


def _board(name: str, sm: int, count: int, gigahertz: float, gigabytes_per_s: float) -> Board:
    return Board(name, Target(sm), count, gigahertz, gigabytes_per_s)


# Within an architecture the smallest board that is common comes first: what is chosen for it is
# least wrong elsewhere.
BOARDS = (
    _board("Jetson Nano", 53, 1, 0.92, 25.6),
    _board("GTX 1060", 61, 10, 1.7, 192),
    _board("Jetson TX2", 62, 2, 1.3, 59.7),
    _board("V100", 70, 80, 1.53, 900),
    _board("Jetson Xavier NX", 72, 6, 1.1, 59.7),
    _board("Jetson AGX Xavier", 72, 8, 1.377, 136.5),
    _board("T4", 75, 40, 1.59, 320),
    _board("A100", 80, 108, 1.41, 1555),
    _board("RTX 3060", 86, 28, 1.78, 360),
    _board("Jetson Orin Nano", 87, 8, 0.625, 68),
    _board("Jetson Orin Nano Super", 87, 8, 1.02, 102),
    _board("Jetson Orin Nano 4GB", 87, 4, 0.625, 34),
    _board("Jetson Orin NX", 87, 8, 0.918, 102.4),
    _board("Jetson AGX Orin 32GB", 87, 14, 0.93, 204.8),
    _board("Jetson AGX Orin", 87, 16, 1.3, 204.8),
    _board("L4", 89, 58, 2.04, 300),
    _board("RTX 4090", 89, 128, 2.52, 1008),
    _board("H100", 90, 132, 1.83, 3350),
    _board("H200", 90, 132, 1.83, 4800),
    _board("B200", 100, 148, 1.85, 8000),
    _board("Jetson Thor", 101, 20, 1.575, 273),
    _board("Jetson Thor", 110, 20, 1.575, 273),
    _board("RTX 5060", 120, 30, 2.5, 448),
    _board("RTX 5090", 120, 170, 2.41, 1792),
    _board("GB10", 121, 48, 2.42, 273),
)


def board_for(target: Target) -> Board:
    """Return the board to plan for: the nearest in size where the target says its own.

    Otherwise, and among equals, the first of its architecture, or of the newest older one.
    """
    alike = [board for board in BOARDS if board.target == target]
    if not alike:
        older = [board for board in BOARDS if board.target.sm <= target.sm]
        alike = [max(older, key=lambda board: board.target.sm)]
    size = target.multiprocessors
    if not size:
        return alike[0]
    nearest = min(alike, key=lambda board: abs(board.multiprocessors - size))
    return replace(nearest, multiprocessors=size)


def board_of_device(
    name: str, target: Target, multiprocessors: int, clock_khz: int, memory_khz: int, bus_bits: int
) -> Board:
    """Return the board that a device's attributes describe; DRAM moves twice a memory clock.

    Where the driver leaves memory out (as on some Jetsons) it is the nearest known board's.
    """
    gigabytes_per_s = 2e-6 * memory_khz * bus_bits / 8
    if not gigabytes_per_s:
        gigabytes_per_s = board_for(
            replace(target, multiprocessors=multiprocessors)
        ).gigabytes_per_s
    return Board(name, target, multiprocessors, clock_khz * 1e-6, gigabytes_per_s)
