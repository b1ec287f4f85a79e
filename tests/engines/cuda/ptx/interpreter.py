"""Runs a kernel's PTX: the whole grid in step, every lane at the lowest instruction first.

Lanes that branch apart meet again where their instructions do; a block's barrier opens when all
its live threads wait at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.engines.cuda.ptx.access import MEMORY_STEPS, Memories
from tests.engines.cuda.ptx.arithmetic import ARITHMETIC
from tests.engines.cuda.ptx.bits import BITS
from tests.engines.cuda.ptx.memory import GlobalMemory, Integers, SharedMemory
from tests.engines.cuda.ptx.parser import Instruction, PtxFault, PtxKernel
from tests.engines.cuda.ptx.threads import Lanes, Threads
from tests.engines.cuda.ptx.warps import WARP_STEPS, Warps

Step = Callable[[Lanes], None]
COMPUTED = {**ARITHMETIC, **BITS}
THREADS_AT_ONCE = 1 << 16
ENDS = 1 << 60  # after every instruction
NO_EFFECT = ("membar", "fence", "nop", "pragma", "prefetch", "discard", "applypriority")


def run_grid(
    kernel: PtxKernel,
    memory: GlobalMemory,
    parameters: tuple[int, ...],
    grid: tuple[int, int, int],
    threads: int,
    dynamic_shared_bytes: int = 0,
) -> int:
    """Carry out a launch, some blocks at a time; return how many vector steps it took."""
    if len(parameters) != len(kernel.parameters):
        raise PtxFault(f"{kernel.name} takes {len(kernel.parameters)} pointers")
    named = dict(zip(kernel.parameters, parameters, strict=True))
    memory.begin_launch()
    blocks = grid[0] * grid[1] * grid[2]
    at_once = max(1, THREADS_AT_ONCE // threads)
    steps = 0
    for first in range(0, blocks, at_once):
        some = range(first, min(first + at_once, blocks))
        state = Threads(kernel, named, grid, some, threads)
        shared_bytes = kernel.shared_bytes + dynamic_shared_bytes
        shared = SharedMemory(len(some), shared_bytes, threads)
        steps += _Run(kernel, state, Memories(state, memory, shared)).run()
    return steps


class _Run:
    """Some blocks of a grid, from the first instruction to the last."""

    def __init__(self, kernel: PtxKernel, threads: Threads, memories: Memories) -> None:
        self._kernel = kernel
        self._threads = threads
        self._memories = memories
        self._warps = Warps(threads, memories)
        self._decoded: list[Step | None] = [None] * len(kernel.instructions)
        self._live = np.full(threads.blocks, threads.threads_in_block)
        self._running: dict[int, list[Integers]] = {0: [np.arange(threads.count)]}
        self._waiting: dict[int, list[Integers]] = {}
        self.steps = 0

    def run(self) -> int:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            while self._running or self._waiting:
                if not self._running:
                    self._open_barriers()
                position = min(self._running)
                lanes = np.concatenate(self._running.pop(position))
                self._advance(position, np.sort(lanes))
        self._memories.finish()
        return self.steps

    def _advance(self, position: int, lanes: Integers) -> None:
        """Go on until the lanes part, wait or end, or others are at a lower instruction."""
        others = min(self._running, default=ENDS)
        while position < others:
            instruction = self._kernel.instructions[position]
            self.steps += 1
            try:
                following = self._step(position, instruction, lanes)
            except PtxFault as fault:
                raise PtxFault(f"{fault}\n    {instruction.text}") from None
            if following is None:
                return
            position, lanes = following
        self._running.setdefault(position, []).append(lanes)

    def _step(
        self, position: int, instruction: Instruction, lanes: Integers
    ) -> tuple[int, Integers] | None:
        """Return where which lanes go on in step, or None where they were put elsewhere."""
        active, rest = self._active(instruction, lanes)
        kind = instruction.opcode[0]
        if kind in ("bra", "brx"):
            return self._branch(position, instruction, active, rest)
        if kind in ("ret", "exit"):
            np.subtract.at(self._live, active // self._threads.threads_in_block, 1)
            return (position + 1, rest) if len(rest) else None
        if kind in ("bar", "barrier") and "warp" not in instruction.opcode:
            self._check_barrier(instruction, rest)
            self._waiting.setdefault(position + 1, []).append(active)
            return None
        if len(active):
            whole = len(active) == self._threads.count
            self._decode(position, instruction)(slice(None) if whole else active)
        return position + 1, lanes

    def _active(self, instruction: Instruction, lanes: Integers) -> tuple[Integers, Integers]:
        if not instruction.predicate:
            return lanes, lanes[:0]
        holds = self._threads.read(instruction.predicate, "pred")(lanes)
        holds = ~holds if instruction.negated else holds
        return lanes[holds], lanes[~holds]

    def _branch(
        self, position: int, instruction: Instruction, active: Integers, rest: Integers
    ) -> tuple[int, Integers] | None:
        if instruction.opcode[0] == "brx":
            return self._branch_by_index(instruction, active)
        target = self._kernel.labels[str(instruction.operands[0])]
        if not len(rest):
            return target, active
        if not len(active):
            return position + 1, rest
        self._running.setdefault(target, []).append(active)
        self._running.setdefault(position + 1, []).append(rest)
        return None

    def _branch_by_index(self, instruction: Instruction, active: Integers) -> None:
        index, table = instruction.operands
        labels = self._kernel.targets[str(table)]
        chosen = np.broadcast_to(self._threads.read(index, "u32")(active), len(active))
        for value in np.unique(chosen):
            target = self._kernel.labels[labels[int(value)]]
            self._running.setdefault(target, []).append(active[chosen == value])

    def _check_barrier(self, instruction: Instruction, rest: Integers) -> None:
        if instruction.opcode[1] != "sync" or len(rest):
            raise PtxFault(f"not interpreted: {instruction.text}")
        if [str(operand) for operand in instruction.operands] != ["0"]:
            raise PtxFault(f"only whole blocks are interpreted: {instruction.text}")

    def _open_barriers(self) -> None:
        waiting = np.concatenate([lanes for found in self._waiting.values() for lanes in found])
        blocks = waiting // self._threads.threads_in_block
        arrived = np.bincount(blocks, minlength=self._threads.blocks)
        stuck = np.flatnonzero((arrived > 0) & (arrived != self._live))
        if len(stuck):
            raise PtxFault(f"deadlock: some threads of block {stuck[0]} never reach a barrier")
        places = np.zeros(self._threads.blocks, np.int64)
        for found in self._waiting.values():
            places[np.unique(np.concatenate(found) // self._threads.threads_in_block)] += 1
        if (places > 1).any():
            block = int(np.argmax(places))
            raise PtxFault(f"threads of block {block} wait at {places[block]} different barriers")
        self._memories.shared.barriers[arrived > 0] += 1
        self._running, self._waiting = self._waiting, {}

    def _decode(self, position: int, instruction: Instruction) -> Step:
        step = self._decoded[position]
        if step is None:
            step = self._decoded[position] = self._decoder(instruction)
        return step

    def _decoder(self, instruction: Instruction) -> Step:
        kind = instruction.opcode[0]
        if kind in COMPUTED:
            return COMPUTED[kind](instruction, self._threads)
        if kind in MEMORY_STEPS:
            return MEMORY_STEPS[kind](self._memories, instruction)
        if kind in WARP_STEPS:
            return WARP_STEPS[kind](self._warps, instruction)
        if kind == "bar":
            return self._warps.synchronize(instruction)
        if kind in NO_EFFECT:
            return _nothing
        raise PtxFault(f"not interpreted: {instruction.text}")


def _nothing(_: Any) -> None:
    return
