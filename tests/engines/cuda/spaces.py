"""The spaces of a plan in memory of this machine, each between margins that nobody may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.launch import Space

Bytes = npt.NDArray[np.uint8]
ALIGNMENT = 256  # of a space's start
MARGIN = 0xC3  # what lies around a space, and stays there
POISON = 0x9D  # what a space holds before anybody writes it


class MachineFault(AssertionError):
    """A kernel left something that it must not leave."""


@dataclass(frozen=True)
class Contents:
    """What the spaces hold before the first launch."""

    arena: Bytes
    constants: Bytes
    scratch_bytes: int = 0
    inputs: tuple[Bytes, ...] = ()
    outputs: tuple[Bytes, ...] = ()


@dataclass(frozen=True, eq=False)
class Region:
    """A space in memory that ends where nobody may read."""

    name: str
    whole: Bytes  # a margin, what the space holds, a margin
    start: int
    size: int
    is_writable: bool

    @property
    def contents(self) -> Bytes:
        return self.whole[self.start : self.start + self.size]


@dataclass(eq=False)
class Memory:
    """The regions of a machine, and what must be so after every launch."""

    regions: dict[tuple[Space, int], Region]
    _constant: dict[tuple[Space, int], bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, region in self.regions.items():
            if not region.is_writable:
                self._constant[key] = region.contents.tobytes()

    def check(self, label: str) -> None:
        for key, region in self.regions.items():
            self._check_margins(label, region)
            held = region.contents
            if key[0] == "scratch" and held.any():
                at = int(np.flatnonzero(held)[0])
                raise MachineFault(f"{label} leaves scratch byte {at} of {held.size} nonzero")
            if key in self._constant and held.tobytes() != self._constant[key]:
                raise MachineFault(f"{label} writes to {region.name}, which it only may read")

    def _check_margins(self, label: str, region: Region) -> None:
        before, after = region.whole[: region.start], region.whole[region.start + region.size :]
        if (before != MARGIN).any():
            raise MachineFault(f"{label} writes before the start of {region.name}")
        if (after != MARGIN).any():
            at = region.size + int(np.flatnonzero(after != MARGIN)[0])
            raise MachineFault(
                f"{label} writes byte {at} of {region.name}, which has {region.size}"
            )


Allocate = Callable[[int], Bytes]  # at least so many bytes, the end at the end of a page


def lay_out(contents: Contents, allocate: Allocate) -> Memory:
    """Place every space."""
    regions: dict[tuple[Space, int], Region] = {}

    def add(space: Space, index: int, held: Bytes, is_writable: bool) -> None:
        name = f"{space}{index}" if space in ("input", "output") else space
        room = -(-held.size // ALIGNMENT) * ALIGNMENT
        whole = allocate(room + ALIGNMENT)
        start = whole.size - room
        whole[:] = MARGIN
        whole[start : start + held.size] = held
        regions[space, index] = Region(name, whole, start, held.size, is_writable)

    add("arena", 0, contents.arena, True)
    add("constants", 0, contents.constants, False)
    add("scratch", 0, np.zeros(contents.scratch_bytes, np.uint8), True)
    for index, held in enumerate(contents.inputs):
        add("input", index, held, False)
    for index, held in enumerate(contents.outputs):
        add("output", index, held, True)
    return Memory(regions)
