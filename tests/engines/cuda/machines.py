"""A plan's spaces and launches, carried out on the CPU and checked after every launch."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.launch import Launch, Pointer, Space
from edgeq.engines.cuda.render import render
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.emulator.emulator import (
    Emulator,
    EmulatorFault,
    Runner,
    emulator,
    with_source_line,
)

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


Edit = Callable[[str], str]


def unchanged(source: str) -> str:
    """Return a kernel's source as it is."""
    return source


class Machine(Protocol):
    """What carries out launches."""

    def memory(self, space: Space, index: int = 0) -> Bytes: ...

    def launch(self, launch: Launch) -> None: ...

    def close(self) -> None: ...


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


@dataclass(frozen=True)
class _Mapped:
    """A region as the child process has it."""

    file: int
    address: int


class EmulatedMachine:
    """Kernels compiled by g++, run in a child process.

    `seed` 0 runs threads in order, others shuffle them. `edit` changes a kernel's source: for
    tests that break a kernel on purpose.
    """

    def __init__(
        self, contents: Contents, target: Target, seed: int = 0, edit: Edit = unchanged
    ) -> None:
        del target  # the emulator has what any target has
        self.seed = seed
        self._edit = edit
        self._emulator: Emulator = emulator()
        self._runner: Runner = self._emulator.runner()
        self._files: list[int] = []
        self._memory = lay_out(contents, self._allocate)
        self._addresses = {
            key: self._map(region, file)
            for (key, region), file in zip(self._memory.regions.items(), self._files, strict=True)
        }

    def memory(self, space: Space, index: int = 0) -> Bytes:
        return self._memory.regions[space, index].contents

    def launch(self, launch: Launch) -> None:
        source = self._edit(render(launch.kernel))
        library = self._emulator.library(source)
        given = [self._address(pointer) for pointer in launch.pointers]
        threads = (launch.kernel.threads, 1, 1)
        numbers = (*launch.grid, *threads, launch.kernel.dynamic_shared_bytes, self.seed)
        try:
            self._runner.command("launch", library, *numbers, len(given), *given)
        except EmulatorFault as fault:
            message = with_source_line(str(fault), source)
            raise EmulatorFault(f"{launch.label}: {message}") from None
        self._memory.check(launch.label)

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files.clear()
        if self._runner.is_alive:
            for region in self._memory.regions.values():
                self._runner.command("unmap", region.name)
            self._emulator.give_back(self._runner)

    def _allocate(self, size: int) -> Bytes:
        rounded = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        file = os.memfd_create("edgeq-space", os.MFD_CLOEXEC)
        self._files.append(file)
        os.ftruncate(file, rounded)
        return np.frombuffer(mmap.mmap(file, rounded), np.uint8)

    def _map(self, region: Region, file: int) -> int:
        path = f"/proc/{os.getpid()}/fd/{file}"
        sizes = (region.whole.size, region.start, region.size, int(region.is_writable))
        return int(self._runner.command("map", region.name, path, *sizes))

    def _address(self, pointer: Pointer) -> int:
        region = self._memory.regions[pointer.space, pointer.index]
        if not 0 <= pointer.offset <= region.size:
            raise MachineFault(f"{pointer} lies outside {region.name} of {region.size} bytes")
        return self._addresses[pointer.space, pointer.index] + pointer.offset


def run(machine: Machine, launches: Sequence[Launch]) -> None:
    """Carry out launches one after the other."""
    for launch in launches:
        machine.launch(launch)
