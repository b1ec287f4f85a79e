"""A Program and a target -> the Plan: what is launched in which order, on which memory.

Needs no GPU. The passes stand in `make_plan` in their order; the result is the same whenever the
same program is planned for the same target with the same choices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.binding.table import choices
from edgeq.engines.cuda.launch import Kernel, Launch, Pointer, View
from edgeq.engines.cuda.planning.arena import aligned
from edgeq.engines.cuda.planning.borders import prepare_borders
from edgeq.engines.cuda.planning.chaining import chain
from edgeq.engines.cuda.planning.fusing import fuse
from edgeq.engines.cuda.planning.layout import ITEMSIZE, Layout, lay_out
from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.nodes import Node, Program, Value
from edgeq.engines.cuda.targets import Target

Pick = Callable[["Candidates"], Choice]


@dataclass(frozen=True)
class Port:
    """An input or output buffer: dense, in the order of the model's inputs or outputs."""

    name: str
    shape: tuple[int, ...]
    datatype: str

    @property
    def size(self) -> int:
        """Return its bytes."""
        return math.prod(self.shape) * ITEMSIZE[self.datatype]


@dataclass(frozen=True)
class Step:
    """One node of the fused program: what carries it out, and how long that may take."""

    label: str
    choice: str
    microseconds: float  # estimated
    launches: tuple[Launch, ...]


@dataclass(frozen=True)
class Plan:
    """All that is needed to run a program but the compiled kernels."""

    target: Target
    steps: tuple[Step, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: bytes
    arena_bytes: int
    scratch_bytes: int

    @property
    def launches(self) -> tuple[Launch, ...]:
        """Return all launches in their order."""
        return tuple(launch for step in self.steps for launch in step.launches)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Return each distinct kernel once, in the order of its first launch."""
        return tuple(dict.fromkeys(launch.kernel for launch in self.launches))


@dataclass(frozen=True)
class Candidates:
    """The ways to carry out one node, best first by estimate, and how to try one out.

    `trial` gives a fresh place for each, so that what is not chosen leaves nothing behind.
    """

    label: str
    choices: Sequence[Choice]
    trial: Callable[[str], Trial]  # by the name of a choice


@dataclass(frozen=True)
class Trial:
    """The launches of one choice alone, with the memory they need."""

    launches: tuple[Launch, ...]
    constants: bytes
    arena_bytes: int
    scratch_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def first(candidates: Candidates) -> Choice:
    """Pick what the cost model holds for the fastest."""
    return candidates.choices[0]


def make_plan(program: Program, target: Target, pick: Pick = first) -> Plan:
    """Fuse, lay out, choose kernels.

    Args:
        program: as lowered from the model.
        target: the GPU it is for.
        pick: chooses among the kernels for a node; the cost model by default.

    Raises:
        EngineError: a node for which there is no kernel.
    """
    check_program(program)
    fused = chain(prepare_borders(fuse(program, check_program)))
    check_program(fused)
    layout = lay_out(fused, target)
    site = Placement(layout, target)
    steps = tuple(_step(position, site, pick) for position in range(len(layout.program.nodes)))
    return Plan(
        target,
        steps,
        _ports(layout.program, layout.program.inputs),
        _ports(layout.program, layout.program.outputs),
        site.constants(),
        layout.arena_bytes,
        site.scratch_bytes,
    )


def _step(position: int, site: Placement, pick: Pick) -> Step:
    program = site.layout.program
    node = program.nodes[position]
    label = program.labels[position] if program.labels else type(node).__name__
    chosen = pick(
        Candidates(label, choices(node, site), lambda name: _trial(node, name, site.afresh()))
    )
    site.begin()
    return Step(label, chosen.name, chosen.microseconds, chosen.bind())


def _trial(node: Node, name: str, site: Placement) -> Trial:
    chosen = next(choice for choice in choices(node, site) if choice.name == name)
    launches, program = chosen.bind(), site.layout.program
    return Trial(
        launches,
        site.constants(),
        site.layout.arena_bytes,
        site.scratch_bytes,
        _ports(program, program.inputs),
        _ports(program, program.outputs),
    )


def _ports(program: Program, values: Sequence[int]) -> tuple[Port, ...]:
    found = (program.values[value] for value in values)
    return tuple(Port(v.name, v.shape, v.datatype) for v in found)


@dataclass
class Placement:
    """The Site of a plan: collects constants, each once, and scratch."""

    layout: Layout
    target: Target
    scratch_bytes: int = 0
    _scratch_taken: int = 0  # by the present node
    _blob: bytearray = field(default_factory=bytearray)
    _known: dict[bytes, Pointer] = field(default_factory=dict)

    def value(self, index: int) -> Value:
        """Return a value of the program."""
        return self.layout.program.values[index]

    def view(self, index: int) -> View:
        """Return where it lies; a constant value is placed at the first asking."""
        constants: Mapping[int, npt.NDArray[Any]] = self.layout.program.constants
        if index not in constants:
            return self.layout.views[index]
        array = constants[index]
        return View.of(self.constant(array), self.value(index).shape, itemsize=array.itemsize)

    def constant(self, array: npt.NDArray[Any]) -> Pointer:
        """Place an array among the constants, at a multiple of 256 bytes; equal ones share."""
        content = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._known:
            self._known[key] = Pointer("constants", len(self._blob))
            self._blob += content + bytes(aligned(len(content)) - len(content))
        return self._known[key]

    def begin(self) -> None:
        """Begin with another node: it may share the scratch of those before it."""
        self._scratch_taken = 0

    def scratch(self, size: int) -> Pointer:
        """Reserve bytes of zeroed memory for the present node."""
        start = self._scratch_taken
        self._scratch_taken += aligned(size)
        self.scratch_bytes = max(self.scratch_bytes, self._scratch_taken)
        return Pointer("scratch", start)

    def afresh(self) -> Placement:
        """Return a place for the same layout where nothing has been placed yet."""
        return Placement(self.layout, self.target)

    def constants(self) -> bytes:
        """Return all that was placed."""
        return bytes(self._blob)
