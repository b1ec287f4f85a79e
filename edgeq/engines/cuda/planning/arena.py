"""Sizes and lifetimes -> offsets in one block of memory, so that what never lives at once shares.

Greedy by size, each into the lowest gap that is free for its whole life: Pisarchyk and Lee,
"Efficient Memory Management for Deep Neural Net Inference" (2020), as in TFLite's planner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 256  # bytes: what cuMemAlloc aligns to, and more than any vector access needs


@dataclass(frozen=True)
class Tenant:
    """What wants memory: from step `first` to step `last`, both included."""

    size: int  # bytes
    first: int
    last: int


def aligned(size: int) -> int:
    """Round up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def pack(tenants: Sequence[Tenant]) -> tuple[tuple[int, ...], int]:
    """Return the offset of each tenant, and the bytes of the whole arena."""
    offsets: dict[int, int] = {}
    by_size = sorted(range(len(tenants)), key=lambda i: (-tenants[i].size, tenants[i].first, i))
    for index in by_size:
        neighbours = sorted(
            (offsets[other], offsets[other] + aligned(tenants[other].size))
            for other in offsets
            if _overlap(tenants[index], tenants[other])
        )
        offsets[index] = _lowest_gap(aligned(tenants[index].size), neighbours)
    ends = [offset + aligned(tenants[index].size) for index, offset in offsets.items()]
    return tuple(offsets[index] for index in range(len(tenants))), max(ends, default=0)


def _overlap(one: Tenant, other: Tenant) -> bool:
    return one.first <= other.last and other.first <= one.last


def _lowest_gap(size: int, taken: Sequence[tuple[int, int]]) -> int:
    start = 0
    for begin, end in taken:
        if begin - start >= size:
            return start
        start = max(start, end)
    return start
