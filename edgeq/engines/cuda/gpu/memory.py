"""What a plan needs of memory -> where it lies: one block on the device, one pinned on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeq.engines.cuda.launch import Launch, Pointer
from edgeq.engines.cuda.planning.arena import aligned
from edgeq.engines.cuda.planning.plan import Port


class Loadable(Protocol):
    """What can be loaded: a whole plan, or the trial of one node."""

    @property
    def launches(self) -> tuple[Launch, ...]:
        """In their order."""

    @property
    def constants(self) -> bytes:
        """The read-only blob."""

    @property
    def arena_bytes(self) -> int:
        """Of the values between the kernels."""

    @property
    def scratch_bytes(self) -> int:
        """Of the space that starts zeroed."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the host writes."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the host reads."""


@dataclass(frozen=True)
class MemoryMap:
    """Offsets in bytes into a block on the device and a pinned one on the host.

    The host's holds the inputs, then the outputs. With zero copy the kernels work on it; without,
    the device's block has a part of the same form at `ports`, and both are kept alike by copies.
    """

    arena: int
    constants: int
    scratch: int
    ports: int  # of the device's block; -1 with zero copy
    device_bytes: int
    inputs: tuple[int, ...]  # of the host's block
    outputs: tuple[int, ...]
    input_bytes: int  # the outputs begin there
    host_bytes: int

    @property
    def is_zero_copy(self) -> bool:
        """Say whether the kernels read and write the host's block."""
        return self.ports < 0

    def address(self, pointer: Pointer, device: int, host: int) -> int:
        """Return the address a kernel is given, from those of the two blocks on the device."""
        if pointer.space in ("input", "output"):
            offsets = self.inputs if pointer.space == "input" else self.outputs
            start = host if self.is_zero_copy else device + self.ports
            return start + offsets[pointer.index] + pointer.offset
        return device + int(getattr(self, pointer.space)) + pointer.offset


def lay_out(plan: Loadable, *, zero_copy: bool) -> MemoryMap:
    """Say where everything of a plan lies, each thing at a multiple of 256 bytes."""
    inputs, input_bytes = _places(plan.inputs, 0)
    outputs, host_bytes = _places(plan.outputs, input_bytes)
    constants = aligned(plan.arena_bytes)
    scratch = constants + aligned(len(plan.constants))
    ports = scratch + aligned(plan.scratch_bytes)
    device_bytes = ports if zero_copy else ports + host_bytes
    return MemoryMap(
        arena=0,
        constants=constants,
        scratch=scratch,
        ports=-1 if zero_copy else ports,
        device_bytes=max(256, device_bytes),
        inputs=inputs,
        outputs=outputs,
        input_bytes=input_bytes,
        host_bytes=max(256, host_bytes),
    )


def _places(ports: Sequence[Port], start: int) -> tuple[tuple[int, ...], int]:
    offsets = []
    for port in ports:
        offsets.append(start)
        start += aligned(port.size)
    return tuple(offsets), start
