"""What a block takes -> how many of them a multiprocessor holds, as CUDA's occupancy calculator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeq.engines.cuda.targets import Target

WARP = 32
_REGISTER_UNIT = 256  # a warp gets a multiple of it
_REGISTERS = 65536  # of a multiprocessor
_KIB = 1024

Limit = Literal["registers", "shared memory", "threads", "blocks"]


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor of an architecture has, and what one block may take."""

    blocks: int
    warps: int
    shared_bytes: int
    block_shared_bytes: int  # static and dynamic together, once asked for
    block_registers: int = _REGISTERS
    shared_unit: int = 128
    reserved_bytes: int = 1024  # of shared memory, by the system, for each block


@dataclass(frozen=True)
class Occupancy:
    """How many blocks and warps are resident at once, and what there is too little of for more.

    No blocks: such a block cannot be launched at all.
    """

    blocks: int
    warps: int
    ratio: float  # of the warps that fit at most
    limit: Limit


def _old(blocks: int, warps: int, shared: int, block_shared: int, registers: int) -> Limits:
    """Before sm_80 nothing is reserved, and shared memory comes in larger pieces."""
    return Limits(blocks, warps, shared * _KIB, block_shared * _KIB, registers, 256, 0)


def _new(blocks: int, warps: int, shared: int) -> Limits:
    return Limits(blocks, warps, shared * _KIB, (shared - 1) * _KIB)


# CUDA C++ programming guide, "Technical Specifications per Compute Capability".
_LIMITS = {
    53: _old(32, 64, 64, 48, 32768),
    61: _old(32, 64, 96, 48, _REGISTERS),
    62: _old(32, 64, 64, 48, 32768),
    70: _old(32, 64, 96, 96, _REGISTERS),
    72: _old(32, 64, 96, 96, _REGISTERS),
    75: _old(16, 32, 64, 64, _REGISTERS),
    80: _new(32, 64, 164),
    86: _new(16, 48, 100),
    87: _new(16, 48, 164),
    89: _new(24, 48, 100),
    90: _new(32, 64, 228),
    101: _new(24, 48, 228),
    100: _new(32, 64, 228),
    103: _new(32, 64, 228),
    110: _new(24, 48, 228),
    120: _new(24, 48, 100),
}


def limits_of(target: Target) -> Limits:
    """Return the limits of an architecture, or of the newest known one that is no newer."""
    return _LIMITS[max((sm for sm in _LIMITS if sm <= target.sm), default=min(_LIMITS))]


def occupancy(target: Target, threads: int, registers: int, shared_bytes: int = 0) -> Occupancy:
    """Return what a multiprocessor holds of such blocks.

    Args:
        target: the architecture.
        threads: of a block.
        registers: of a thread.
        shared_bytes: of a block, static and dynamic together.
    """
    limits = limits_of(target)
    warps = -(-threads // WARP)
    taken_registers = warps * _up(registers * WARP, _REGISTER_UNIT)
    taken_shared = _up(shared_bytes + limits.reserved_bytes, limits.shared_unit)
    room: dict[Limit, int] = {
        "threads": limits.warps // warps,
        "blocks": limits.blocks,
        "registers": _REGISTERS // max(taken_registers, 1),
        "shared memory": limits.shared_bytes // max(taken_shared, 1),
    }
    if taken_registers > limits.block_registers:
        room["registers"] = 0
    if shared_bytes > limits.block_shared_bytes:
        room["shared memory"] = 0
    limit = min(room, key=lambda name: room[name])
    resident = room[limit]
    return Occupancy(resident, resident * warps, resident * warps / limits.warps, limit)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
