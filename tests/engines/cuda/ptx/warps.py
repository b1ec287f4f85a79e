"""Instructions that the 32 lanes of a warp carry out together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.engines.cuda.ptx.access import Memories
from tests.engines.cuda.ptx.memory import SHARED_BASE, Integers
from tests.engines.cuda.ptx.parser import Instruction, Operand, PtxFault, Vector
from tests.engines.cuda.ptx.threads import Array, Lanes, Threads

Step = Callable[[Lanes], None]
FRAGMENT_ROTATION = 5  # which lane holds what of a wmma fragment is the hardware's secret


@dataclass(frozen=True, eq=False)
class Warps:
    """Collectives, over whole warps."""

    threads: Threads
    memories: Memories

    def whole(self, lanes: Lanes) -> Integers:
        """Return the threads, warp by warp [warps, 32]; a part of a warp is a fault."""
        threads = np.sort(self.threads.indices(lanes))
        if len(threads) % 32 or self.threads.threads_in_block % 32:
            raise PtxFault("a part of a warp is at an instruction of the whole warp")
        warps = threads.reshape(-1, 32)
        if (warps[:, 0] % 32 != 0).any() or (warps[:, 31] != warps[:, 0] + 31).any():
            raise PtxFault("a part of a warp is at an instruction of the whole warp")
        return warps

    # ---- shfl, vote, bar.warp

    def shuffle(self, instruction: Instruction) -> Step:
        out, source, where, clamp, mask = instruction.operands
        read_clamp, check_mask = self.threads.read(clamp, "u32"), self._full_mask(mask)
        mode = instruction.opcode[2]
        value_name, _, holds_name = str(out).partition("|")
        write = self.threads.write(value_name, "b32")
        write_holds = self.threads.write(holds_name or "_", "pred")
        read, read_where = self.threads.read(source, "b32"), self.threads.read(where, "s32")

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes)
            check_mask(threads.reshape(-1))
            if (read_clamp(threads.reshape(-1)) >> 8).any():
                raise PtxFault("shuffles within parts of a warp are not interpreted")
            by = np.broadcast_to(read_where(threads.reshape(-1)), threads.size).reshape(-1, 32)
            lane = _source_lane(mode, np.arange(32), by)
            holds = (lane >= 0) & (lane < 32)
            values = read(threads.reshape(-1)).reshape(-1, 32)
            taken = np.take_along_axis(values, np.where(holds, lane, np.arange(32)), 1)
            write(threads.reshape(-1), taken.reshape(-1))
            write_holds(threads.reshape(-1), holds.reshape(-1))

        return step

    def vote(self, instruction: Instruction) -> Step:
        out, source, mask = instruction.operands
        kind, check_mask = instruction.opcode[2], self._full_mask(mask)
        name = str(source)
        read = self.threads.read(name.lstrip("!"), "pred")
        write = self.threads.write(out, instruction.type)

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes)
            check_mask(threads.reshape(-1))
            yes = np.broadcast_to(read(threads.reshape(-1)), threads.size).reshape(-1, 32)
            yes = ~yes if name.startswith("!") else yes
            packed = np.packbits(yes, axis=1, bitorder="little").view(np.uint32)
            result = {"ballot": packed[:, 0], "any": yes.any(1), "all": yes.all(1)}[kind]
            write(threads.reshape(-1), np.repeat(result, 32))

        return step

    def _full_mask(self, mask: Operand) -> Callable[[Integers], None]:
        read = self.threads.read(mask, "u32")

        def check(threads: Integers) -> None:
            if (read(threads) != 0xFFFFFFFF).any():
                raise PtxFault("only whole warps are interpreted; the mask leaves lanes out")

        return check

    def synchronize(self, instruction: Instruction) -> Step:
        """bar.warp.sync: what the lanes of a warp did is seen by all of them from here on."""
        check_mask = self._full_mask(instruction.operands[0])
        per_block = -(-self.threads.threads_in_block // 32)

        def step(lanes: Lanes) -> None:
            check_mask(self.whole(lanes).reshape(-1))
            first = self.whole(lanes)[:, 0]
            block, thread = np.divmod(first, self.threads.threads_in_block)
            self.memories.shared.warp_barriers[block * per_block + thread // 32] += 1

        return step

    # ---- ldmatrix, mma

    def load_matrix(self, instruction: Instruction) -> Step:
        """Lane 8 * t + r gives row r of tile t; lane l receives 4 bytes of row l / 4 of each."""
        out, source = instruction.operands
        if "trans" in instruction.opcode or "m8n8" not in instruction.opcode:
            raise PtxFault(f"not interpreted: {instruction.text}")
        writes = [self.threads.write(name, "b32") for name in self.threads.vector(out)]
        addresses = self.threads.addresses(source)

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes)
            at = addresses(threads.reshape(-1)).reshape(-1, 32)
            for tile, write in enumerate(writes):
                rows = slice(8 * tile, 8 * tile + 8)
                givers = threads[:, rows].reshape(-1)
                words = self.memories.shared.load(givers, at[:, rows].reshape(-1), np.uint32, 4)
                write(threads.reshape(-1), words.reshape(-1))

        return step

    def multiply(self, instruction: Instruction) -> Step:
        """mma of int8: a by rows, b by columns, int32 sums; fragments as the PTX ISA draws them."""
        shape = next((part for part in instruction.opcode if part in _SHAPES), "")
        if not shape or instruction.opcode[-4:] != ("s32", "s8", "s8", "s32"):
            raise PtxFault(f"not interpreted: {instruction.text}")
        rows, depth = _SHAPES[shape]
        out, a, b, c = instruction.operands
        read_a, read_b, read_c = self._reader(a), self._reader(b), self._reader(c)
        writes = [self.threads.write(name, "b32") for name in self.threads.vector(out)]

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes).reshape(-1)
            left = _rows_of_fragments(read_a(threads), rows, depth)
            right = _rows_of_fragments(read_b(threads), 8, depth)
            sums = _product(left, right).reshape(-1, rows // 8, 8, 4, 2)
            for index, write in enumerate(writes):
                part = sums[:, index // 2, :, :, index % 2].reshape(-1)
                write(threads, (read_c(threads)[:, index].view(np.int32) + part).view(np.uint32))

        return step

    # ---- wmma

    def fragment(self, instruction: Instruction) -> Step:
        """wmma.load, wmma.mma, wmma.store of m16n16k16."""
        if "m16n16k16" not in instruction.opcode:
            raise PtxFault(f"not interpreted: {instruction.text}")
        kind = instruction.opcode[1]
        if kind == "mma":
            return self._fragment_multiply(instruction)
        return self._fragment_move(instruction, kind == "load")

    def _fragment_move(self, instruction: Instruction, loads: bool) -> Step:
        """Loads of a (rows) and b (columns), stores of sums (rows): 8 elements a lane."""
        _check_layout(instruction)
        registers, where = instruction.operands[: 2 if loads else 3], instruction.operands[-1]
        names, address = registers if loads else reversed(registers[:2])
        parts = self.threads.vector(names)
        addresses = self.threads.addresses(address)
        pitch = self.threads.read(where, "s32")
        reads = [] if loads else [self.threads.read(name, "b32") for name in parts]
        writes = [self.threads.write(name, "b32") for name in parts] if loads else []
        element = 1 if loads else 4

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes).reshape(-1)
            place = (threads + FRAGMENT_ROTATION) % 32
            offsets = (place // 2 * pitch(threads) + 8 * (place % 2)) * element
            at = addresses(threads) + offsets
            _check_alignment(addresses(threads), np.asarray(pitch(threads)) * element)
            if loads:
                self._fragment_load(threads, at, writes)
            else:
                words = np.stack([read(threads) for read in reads], 1)
                self._fragment_store(threads, at, words)

        return step

    def _fragment_load(self, threads: Integers, at: Integers, writes: list[Any]) -> None:
        words = self.memories.shared.load(threads, at - SHARED_BASE, np.uint32, 2)
        for index, write in enumerate(writes):
            write(threads, words[:, index])

    def _fragment_store(self, threads: Integers, at: Integers, words: Array) -> None:
        for half in range(2):
            self.memories.shared.store(
                threads, at - SHARED_BASE + 16 * half, words[:, 4 * half : 4 * half + 4]
            )

    def _fragment_multiply(self, instruction: Instruction) -> Step:
        out, a, b, c = instruction.operands
        read_a, read_b, read_c = self._reader(a), self._reader(b), self._reader(c)
        writes = [self.threads.write(name, "b32") for name in self.threads.vector(out)]

        def step(lanes: Lanes) -> None:
            threads = self.whole(lanes).reshape(-1)
            place = (np.arange(32) + FRAGMENT_ROTATION) % 32
            order = np.argsort(place)
            left, right = (
                read(threads).reshape(-1, 32, 2)[:, order].copy().view(np.int8).reshape(-1, 16, 16)
                for read in (read_a, read_b)
            )
            sums = _product(left, right).reshape(-1, 32, 8)[:, place].reshape(-1, 8)
            for index, write in enumerate(writes):
                total = read_c(threads)[:, index].view(np.int32) + sums[:, index]
                write(threads, total.view(np.uint32))

        return step

    def _reader(self, operand: Operand) -> Callable[[Integers], Array]:
        """Return what gives the registers of a vector, [threads, registers]."""
        parts = operand.parts if isinstance(operand, Vector) else (str(operand),)
        reads = [self.threads.read(name, "b32") for name in parts]
        return lambda threads: np.stack(
            [np.broadcast_to(read(threads), len(threads)) for read in reads], 1
        ).copy()


def _source_lane(mode: str, lane: Array, by: Array) -> Array:
    source: Array = {
        "bfly": lane ^ by,
        "down": lane + by,
        "up": lane - by,
        "idx": np.broadcast_to(by & 31, by.shape),
    }[mode]
    return source


def _rows_of_fragments(words: Array, rows: int, depth: int) -> Array:
    """[32 * warps, registers] -> int8 [warps, rows, depth]: register r of lane l holds 4 bytes of

    row l / 4 (+ 8 for the odd ones of several row groups), from 4 * (l % 4) on within 16.
    """
    groups, halves = rows // 8, depth // 16
    parts = words.reshape(-1, 8, 4, halves, groups)  # warp, row, part, half, row group
    ordered = np.ascontiguousarray(parts.transpose(0, 4, 1, 3, 2))
    return ordered.view(np.int8).reshape(-1, rows, depth)


def _product(left: Array, right: Array) -> Array:
    """Return left [w, r, k] times right [w, c, k]; exact in float32 as |sums| < 2^24."""
    exact = np.matmul(left.astype(np.float32), right.astype(np.float32).transpose(0, 2, 1))
    return np.ascontiguousarray(exact.astype(np.int32))


def _check_layout(instruction: Instruction) -> None:
    kinds = {"a": "row", "b": "col", "d": "row"}
    wanted = kinds[instruction.opcode[2]]
    if wanted not in instruction.opcode or "global" in instruction.opcode:
        raise PtxFault(f"not interpreted: {instruction.text}")


def _check_alignment(addresses: Integers, pitch: Array) -> None:
    if (addresses % 16).any() or (pitch % 16).any():
        raise PtxFault("wmma at an address or with a pitch that is no multiple of 16 bytes")


_SHAPES = {"m16n8k32": (16, 32), "m8n8k16": (8, 16)}
WARP_STEPS: dict[str, Callable[[Warps, Instruction], Step]] = {
    "shfl": Warps.shuffle,
    "vote": Warps.vote,
    "ldmatrix": Warps.load_matrix,
    "mma": Warps.multiply,
    "wmma": Warps.fragment,
}
