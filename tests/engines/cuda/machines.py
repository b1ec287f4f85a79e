"""A plan's launches carried out on the CPU: by emulated kernels, or by the PTX that NVRTC emits.

The emulator runs the CUDA C itself, threads in any order, but not device.cuh's PTX; the interpreter
runs that PTX, all threads in step, and looks for races instead. What neither sees: what ptxas makes
of the PTX (registers, spills), time, caches, bank conflicts, memory that is seen late by other
blocks (both are sequentially consistent), blocks that wait for each other, and how the hardware
holds wmma's fragments (both rotate them on purpose).
"""

from __future__ import annotations

import functools
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from edgeq.engines.cuda.compiling.render import render
from edgeq.engines.cuda.estimating.occupancy import limits_of
from edgeq.engines.cuda.launch import Launch, Pointer, Space
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.compilers import real_compiler
from tests.engines.cuda.emulator.emulator import (
    Emulator,
    EmulatorFault,
    Runner,
    emulator,
    with_source_line,
)
from tests.engines.cuda.ptx.interpreter import run_grid
from tests.engines.cuda.ptx.memory import GLOBAL_BASE, GlobalMemory
from tests.engines.cuda.ptx.parser import PtxFault, PtxKernel, parse
from tests.engines.cuda.spaces import Bytes, Contents, MachineFault, Region, lay_out

MOST_THREADS = 1024
MOST_BLOCKS = (2**31 - 1, 65535, 65535)
STATIC_SHARED_BYTES = 48 << 10  # ptxas refuses more
GAP = 4096  # bytes between interpreted regions

Edit = Callable[[str], str]


def unchanged(source: str) -> str:
    """Return a kernel's source as it is."""
    return source


class Machine(Protocol):
    """What carries out launches."""

    def memory(self, space: Space, index: int = 0) -> Bytes: ...

    def launch(self, launch: Launch) -> None: ...

    def close(self) -> None: ...


def check_limits(launch: Launch, target: Target, static_bytes: int = 0) -> None:
    """Refuse what the driver would: too many threads or blocks, too much shared memory."""
    shared = static_bytes + launch.kernel.dynamic_shared_bytes
    most = limits_of(target).block_shared_bytes
    if shared > most:
        raise MachineFault(
            f"{launch.label} takes {shared} bytes of shared memory; {target.name} has {most}"
        )
    if static_bytes > STATIC_SHARED_BYTES:
        raise MachineFault(f"{launch.label} has {static_bytes} bytes of static shared memory")
    if not 0 < launch.kernel.threads <= MOST_THREADS:
        raise MachineFault(f"{launch.label} has blocks of {launch.kernel.threads} threads")
    for size, limit in zip(launch.grid, MOST_BLOCKS, strict=True):
        if not 0 < size <= limit:
            raise MachineFault(f"{launch.label} has a grid of {launch.grid} blocks")


class EmulatedMachine:
    """Kernels compiled by g++, run in a child process.

    `seed` 0 runs threads in order, others shuffle them. `edit` changes a kernel's source: for
    tests that break a kernel on purpose.
    """

    def __init__(
        self, contents: Contents, target: Target, seed: int = 0, edit: Edit = unchanged
    ) -> None:
        self.target = target
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
        check_limits(launch, self.target)
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


class InterpretedMachine:
    """The PTX that NVRTC emits for the target, interpreted.

    There is one schedule, all threads in step; races for shared memory are looked for instead.
    """

    def __init__(
        self, contents: Contents, target: Target, seed: int = 0, edit: Edit = unchanged
    ) -> None:
        del seed
        self.target = target
        self.steps = 0
        self._edit = edit
        self._top = 0
        self._buffer: Bytes = np.zeros(_room(contents), np.uint8)
        self._memory = lay_out(contents, self._allocate)
        regions = list(self._memory.regions.values())
        starts = [self._start(region) for region in regions]
        self._addresses = dict(zip(self._memory.regions, starts, strict=True))
        self._global = GlobalMemory(self._buffer, regions, starts)

    def memory(self, space: Space, index: int = 0) -> Bytes:
        return self._memory.regions[space, index].contents

    def launch(self, launch: Launch) -> None:
        kernel = ptx_of(self._edit(render(launch.kernel)), self.target)
        check_limits(launch, self.target, kernel.shared_bytes)
        given = tuple(
            GLOBAL_BASE + self._addresses[pointer.space, pointer.index] + pointer.offset
            for pointer in launch.pointers
        )
        threads, dynamic = launch.kernel.threads, launch.kernel.dynamic_shared_bytes
        try:
            self.steps += run_grid(kernel, self._global, given, launch.grid, threads, dynamic)
        except PtxFault as fault:
            raise PtxFault(f"{launch.label}: {fault}") from None
        self._memory.check(launch.label)

    def close(self) -> None:
        """Nothing is held."""

    def _allocate(self, size: int) -> Bytes:
        start = self._top
        self._top = -(-(start + size + GAP) // GAP) * GAP
        return self._buffer[start : start + size]

    def _start(self, region: Region) -> int:
        base = self._buffer.__array_interface__["data"][0]
        here: int = region.contents.__array_interface__["data"][0] - base
        return here


def _room(contents: Contents) -> int:
    spaces = [contents.arena, contents.constants, *contents.inputs, *contents.outputs]
    sizes = [*(space.size for space in spaces), contents.scratch_bytes]
    return sum(-(-(size + 4 * GAP) // GAP) * GAP for size in sizes)


@functools.cache
def ptx_of(source: str, target: Target) -> PtxKernel:
    """Compile a rendered source to PTX and read it; skips the test where there is no NVRTC."""
    image = real_compiler(target).compile(source, target, "ptx").image
    return parse(image.rstrip(b"\0").decode("utf-8"))


def run(machine: Machine, launches: Sequence[Launch]) -> None:
    """Carry out launches one after the other."""
    for launch in launches:
        machine.launch(launch)
