"""Instructions that read and write memory: of the grid, of a block, of a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.engines.cuda.ptx.memory import (
    LOCAL_BASE,
    SHARED_BASE,
    GlobalMemory,
    Integers,
    SharedMemory,
)
from tests.engines.cuda.ptx.parser import Address, Instruction, PtxFault
from tests.engines.cuda.ptx.threads import TYPES, Array, Lanes, Threads, kept_type

Step = Callable[[Lanes], None]


@dataclass(frozen=True, eq=False)
class _Copies:
    """A cp.async under way, of several threads."""

    threads: Integers
    groups: Integers  # that each thread will have committed when this one is
    targets: Integers
    values: Array  # [threads, bytes], as they were when the copy was asked for


class Memories:
    """What the threads of a grid read and write."""

    def __init__(self, threads: Threads, everything: GlobalMemory, shared: SharedMemory) -> None:
        self._threads = threads
        self._global = everything
        self.shared = shared
        self._pending: list[_Copies] = []
        self._committed = np.zeros(threads.count, np.int64)

    # ---- ld, st

    def load(self, instruction: Instruction) -> Step:
        out, source = instruction.operands
        t = instruction.type
        if "param" in instruction.opcode:
            return self._load_parameter(out, source, t)
        names = self._threads.vector(out)
        writes = [self._threads.write(name, t) for name in names]
        addresses = self._threads.addresses(source)
        space, stays = _space(instruction), "nc" in instruction.opcode

        def step(lanes: Lanes) -> None:
            values = self._read(space, lanes, addresses(lanes), TYPES[t], len(names), stays)
            for index, write in enumerate(writes):
                write(lanes, values[:, index])

        return step

    def store(self, instruction: Instruction) -> Step:
        target, source = instruction.operands
        t = instruction.type
        reads = [self._threads.read(name, t) for name in self._threads.vector(source)]
        addresses = self._threads.addresses(target)
        space = _space(instruction)

        def step(lanes: Lanes) -> None:
            size = self._threads.size(lanes)
            columns = [np.broadcast_to(read(lanes), size) for read in reads]
            self._write(space, lanes, addresses(lanes), np.stack(columns, 1))

        return step

    def _load_parameter(self, out: Any, source: Any, t: str) -> Step:
        assert isinstance(source, Address)
        value = TYPES[t](self._threads.parameters[source.base])
        write = self._threads.write(out, t)
        return lambda lanes: write(lanes, value)

    def _read(
        self, space: str, lanes: Lanes, addresses: Integers, t: Any, count: int, stays: bool
    ) -> Array:
        space, addresses = _resolved(space, addresses)
        threads = self._threads.indices(lanes)
        if space == "shared":
            return self.shared.load(threads, addresses, t, count)
        if space == "local":
            size = np.dtype(t).itemsize * count
            raw = self._threads.local[threads[:, None], self._local(addresses, size)]
            return np.ascontiguousarray(raw).view(t)
        return self._global.load(addresses, t, count, stays)

    def _write(self, space: str, lanes: Lanes, addresses: Integers, values: Array) -> None:
        space, addresses = _resolved(space, addresses)
        threads = self._threads.indices(lanes)
        if space == "shared":
            self.shared.store(threads, addresses, values)
        elif space == "local":
            raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
            self._threads.local[threads[:, None], self._local(addresses, raw.shape[1])] = raw
        else:
            self._global.store(addresses, values)

    def _local(self, addresses: Integers, size: int) -> Array:
        limit = self._threads.kernel.local_bytes
        if ((addresses < 0) | (addresses + size > limit) | (addresses % size != 0)).any():
            raise PtxFault(f"{size} bytes of local memory outside its {limit}, or not aligned")
        columns: Array = addresses[:, None] + np.arange(size)
        return columns

    # ---- atom, red

    def atomic(self, instruction: Instruction) -> Step:
        returns = instruction.opcode[0] == "atom"
        t = instruction.type
        kind = next(part for part in instruction.opcode if part in _CHANGES)
        out = instruction.operands[0] if returns else "_"
        target, *operands = instruction.operands[1 if returns else 0 :]
        write = self._threads.write(out, t)
        reads = [self._threads.read(operand, t) for operand in operands]
        addresses = self._threads.addresses(target)
        change = _CHANGES[kind]
        space = _space(instruction)

        def step(lanes: Lanes) -> None:
            size = self._threads.size(lanes)
            given = [np.broadcast_to(read(lanes), size) for read in reads]
            where = addresses(lanes)
            threads = self._threads.indices(lanes)
            old = np.empty(size, TYPES[t])
            for lane in range(size):
                one, at = threads[lane : lane + 1], where[lane : lane + 1]
                held = self._read(space, one, at, TYPES[t], 1, False)
                old[lane] = held[0, 0]
                new = change(held[0, 0], *(values[lane] for values in given))
                self._write(space, one, at, np.array([[new]], TYPES[t]))
            write(lanes, old)

        return step

    # ---- cp.async

    def copy(self, instruction: Instruction) -> Step:
        kind = instruction.opcode[2]
        if kind == "commit_group":
            return self._commit
        if kind in ("wait_group", "wait_all"):
            left = int(str(instruction.operands[0])) if kind == "wait_group" else 0
            return lambda lanes: self._wait(lanes, left)
        return self._begin_copy(instruction)

    def _begin_copy(self, instruction: Instruction) -> Step:
        target, source, size_text, *rest = instruction.operands
        size = int(str(size_text))
        targets, sources = self._threads.addresses(target), self._threads.addresses(source)
        read_bytes = self._threads.read(rest[0], "u32") if rest else None

        def step(lanes: Lanes) -> None:
            threads = self._threads.indices(lanes)
            wanted = np.full(len(threads), size)
            if read_bytes is not None:
                wanted = np.broadcast_to(read_bytes(lanes), len(threads))
            to, values = targets(lanes), np.zeros((len(threads), size), np.uint8)
            from_memory = wanted > 0
            found = self._global.load(sources(lanes)[from_memory], np.uint8, size, False)
            values[from_memory] = found
            values[np.arange(size) >= wanted[:, None]] = 0
            self.shared.begin_copy(threads, to, size)
            self._pending.append(_Copies(threads, self._committed[threads], to, values))

        return step

    def _commit(self, lanes: Lanes) -> None:
        self._committed[lanes] += 1

    def _wait(self, lanes: Lanes, left: int) -> None:
        finished = np.full(self._threads.count, -1)
        finished[lanes] = self._committed[lanes] - left
        still: list[_Copies] = []
        for copies in self._pending:
            done = copies.groups < finished[copies.threads]
            self.shared.end_copy(copies.threads[done], copies.targets[done], copies.values[done])
            if not done.all():
                kept = ~done
                still.append(
                    _Copies(
                        copies.threads[kept],
                        copies.groups[kept],
                        copies.targets[kept],
                        copies.values[kept],
                    )
                )
        self._pending = still

    def finish(self) -> None:
        """Refuse to end while a copy is under way."""
        if self._pending:
            raise PtxFault("a thread ends with cp.async that nobody waited for")

    # ---- cvta

    def convert_address(self, instruction: Instruction) -> Step:
        """Cvta: shared and local memory have a window each of the generic addresses."""
        base = {"shared": SHARED_BASE, "local": LOCAL_BASE}.get(_space(instruction), 0)
        delta = np.int64(-base if "to" in instruction.opcode else base)
        out, source = instruction.operands
        kept = np.dtype(kept_type(instruction.type))
        read = self._threads.read(source, f"s{8 * kept.itemsize}")
        write = self._threads.write(out, f"s{8 * kept.itemsize}")
        return lambda lanes: write(lanes, read(lanes) + delta)


def _space(instruction: Instruction) -> str:
    for part in instruction.opcode:
        if part.split("_")[0] in ("global", "shared", "local"):
            return part.split("_")[0]
    return ""


def _resolved(space: str, addresses: Integers) -> tuple[str, Integers]:
    """Return what generic addresses mean."""
    if space or not len(addresses) or addresses.max() < SHARED_BASE:
        return space or "global", addresses
    base = SHARED_BASE if addresses.max() < LOCAL_BASE else LOCAL_BASE
    if addresses.min() < base:
        raise PtxFault("one access of lanes to several kinds of memory is not interpreted")
    return "shared" if base == SHARED_BASE else "local", addresses - base


def _wrapped(value: Any, like: Any) -> Any:
    return np.array([int(value) & (1 << 64) - 1], np.uint64).astype(like.dtype)[0]


_CHANGES: dict[str, Callable[..., Any]] = {
    "add": lambda old, by: _wrapped(int(old) + int(by), old),
    "min": min,
    "max": max,
    "and": lambda old, by: old & by,
    "or": lambda old, by: old | by,
    "exch": lambda old, by: by,
    "cas": lambda old, expected, by: by if old == expected else old,
    "inc": lambda old, limit: 0 if old >= limit else old + 1,
}
MEMORY_STEPS: dict[str, Callable[[Memories, Instruction], Step]] = {
    "ld": Memories.load,
    "ldu": Memories.load,
    "st": Memories.store,
    "atom": Memories.atomic,
    "red": Memories.atomic,
    "cp": Memories.copy,
    "cvta": Memories.convert_address,
}
