"""Every choice that a binder offers for a node, carried out and held to the reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.launch import Pointer, View
from edgeq.engines.cuda.program.edges import reads, touches
from edgeq.engines.cuda.program.nodes import Move, Node, Program, Value
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.machines import EmulatedMachine, Machine, run
from tests.engines.cuda.spaces import ALIGNMENT, POISON, Bytes, Contents

Array = npt.NDArray[Any]
Choices = Callable[[Any, Site], Sequence[Choice]]


class MakeMachine(Protocol):
    def __call__(self, contents: Contents, target: Target, seed: int = 0) -> Machine: ...


@dataclass(frozen=True)
class Placement:
    """How a value lies: its rows `pitch` elements apart (a multiple of it), from `before` on."""

    multiple: int = 1  # that the pitch is rounded up to
    before: int = 0  # elements of a wider buffer's row before the value's
    after: int = 0
    owns_padding: bool = True

    def pitch(self, channels: int) -> int:
        wanted = self.before + channels + self.after
        return -(-wanted // self.multiple) * self.multiple


DENSE = Placement()
PITCH_4 = Placement(multiple=4)
PITCH_16 = Placement(multiple=16)
SLICE_16 = Placement(multiple=16, before=16, after=16, owns_padding=False)
SLICE_4 = Placement(multiple=4, before=4, after=8, owns_padding=False)
SLICE_ODD = Placement(before=3, after=2, owns_padding=False)
PLACEMENTS = {
    "dense": DENSE,
    "pitch4": PITCH_4,
    "pitch16": PITCH_16,
    "slice16": SLICE_16,
    "slice4": SLICE_4,
    "slice_odd": SLICE_ODD,
}


@dataclass
class TestSite:
    """A Site whose values lie in the arena as their placements say; constants grow as asked."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    target: Target
    values: Sequence[Value]
    placements: Mapping[int, Placement]
    used: Sequence[int]
    arena_bytes: int = 0
    scratch_bytes: int = 0
    _views: dict[int, View] = field(default_factory=dict)
    _constants: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        for index in self.used:
            self._views[index] = self._place(index)

    def value(self, index: int) -> Value:
        return self.values[index]

    def view(self, index: int) -> View:
        return self._views[index]

    def constant(self, array: Array) -> Pointer:
        self._constants.extend(b"\x5b" * (-len(self._constants) % ALIGNMENT))
        offset = len(self._constants)
        self._constants.extend(np.ascontiguousarray(array).tobytes())
        return Pointer("constants", offset)

    def scratch(self, size: int) -> Pointer:
        offset = -(-self.scratch_bytes // ALIGNMENT) * ALIGNMENT
        self.scratch_bytes = offset + size
        return Pointer("scratch", offset)

    def constants(self) -> Bytes:
        return np.frombuffer(bytes(self._constants), np.uint8)

    def _place(self, index: int) -> View:
        value, placement = self.values[index], self.placements.get(index, DENSE)
        itemsize = np.dtype(value.datatype).itemsize
        channels = value.shape[-1] if value.shape else 1
        pitch = placement.pitch(channels)
        start = self.arena_bytes
        rows = math.prod(value.shape[:-1]) if value.shape else 1
        self.arena_bytes = -(-(start + rows * pitch * itemsize) // ALIGNMENT) * ALIGNMENT
        pointer = Pointer("arena", start + placement.before * itemsize)
        view = View.of(pointer, value.shape, pitch, itemsize)
        return dataclasses.replace(view, owns_padding=placement.owns_padding)


def elements(view: View, arena: Bytes, datatype: str) -> Array:
    """Return the view's elements, as a window on the arena's bytes."""
    itemsize = np.dtype(datatype).itemsize
    flat = arena[view.pointer.offset % itemsize :]
    typed = flat[: flat.size // itemsize * itemsize].view(datatype)
    start = view.pointer.offset // itemsize
    return np.lib.stride_tricks.as_strided(
        typed[start:], view.shape, [stride * itemsize for stride in view.strides]
    )


def operands(node: Node) -> tuple[int, ...]:
    """Return the values that a node reads."""
    return tuple(dict.fromkeys(reads(node)))


def check_node(
    choices: Choices,
    node: Node,
    values: Sequence[Value],
    arrays: Mapping[int, Array],
    target: Target,
    *,
    placement: Placement | str = DENSE,
    placements: Mapping[int, Placement] | None = None,
    machine: MakeMachine = EmulatedMachine,
    seeds: Sequence[int] = (0, 1),
    only: str = "",
) -> tuple[str, ...]:
    """Run every choice (or those whose names contain `only`); return their names.

    `arrays` has what the node reads, in the values' shapes. All values are placed alike, unless
    `placements` says otherwise for one. Bytes of the arena that belong to no element of y must stay
    as they were, but for the padding that y's view owns. Seeds choose the order of threads.
    """
    default = PLACEMENTS[placement] if isinstance(placement, str) else placement
    where = dict.fromkeys(touches(node), default)
    where.update(placements or {})
    arrays = {index: np.asarray(arrays[index]) for index in operands(node)}
    expected = _expected(node, values, arrays)
    names = []
    for position, choice in enumerate(choices(node, _site(node, values, where, target))):
        if only in choice.name:
            names.append(choice.name)
            for seed in seeds:
                site = _site(node, values, where, target)
                bound = choices(node, site)[position]
                attempt = _Attempt(node, values, site, bound, seed)
                attempt.check(arrays, expected, machine)
    return tuple(names)


def _site(
    node: Node, values: Sequence[Value], where: Mapping[int, Placement], target: Target
) -> TestSite:
    return TestSite(target, values, where, tuple(dict.fromkeys(touches(node))))


def _expected(node: Node, values: Sequence[Value], arrays: Mapping[int, Array]) -> Array:
    """Return y; where a Move leaves y alone it stays POISON."""
    program = Program(tuple(values), (node,), tuple(arrays), (node.y,))
    given = dict(arrays)
    if isinstance(node, Move):
        y = values[node.y]
        itemsize = np.dtype(y.datatype).itemsize
        untouched = np.full(math.prod(y.shape) * itemsize, POISON, np.uint8)
        given[node.y] = untouched.view(y.datatype).reshape(y.shape)
    return evaluate(program, given)[node.y]


@dataclass(frozen=True)
class _Attempt:
    node: Node
    values: Sequence[Value]
    site: TestSite
    choice: Choice
    seed: int

    def check(self, arrays: Mapping[int, Array], expected: Array, make: MakeMachine) -> None:
        launches = self.choice.bind()
        arena = np.full(self.site.arena_bytes, POISON, np.uint8)
        for index, array in arrays.items():
            view = self.site.view(index)
            elements(view, arena, self.values[index].datatype)[...] = array
        contents = Contents(arena, self.site.constants(), self.site.scratch_bytes)
        machine = make(contents, self.site.target, self.seed)
        try:
            run(machine, launches)
            self._compare(machine.memory("arena"), arena, expected)
        except AssertionError as failure:
            raise AssertionError(f"{self._title()}: {failure}") from None
        finally:
            machine.close()

    def _title(self) -> str:
        x = next(iter(operands(self.node)))
        shapes = f"{self.values[x].shape} -> {self.values[self.node.y].shape}"
        kind = type(self.node).__name__
        target = self.site.target.name
        return f"choice {self.choice.name!r} of {kind} {shapes} on {target}, seed {self.seed}"

    def _compare(self, arena: Bytes, before: Bytes, expected: Array) -> None:
        view, y = self.site.view(self.node.y), self.values[self.node.y]
        got = elements(view, arena, y.datatype)
        differing = _bits(got) != _bits(expected)
        if differing.any():
            first = tuple(int(i) for i in np.argwhere(differing)[0])
            raise AssertionError(
                f"{int(differing.sum())} of {differing.size} elements differ, first at "
                f"{list(first)}: {got[first]}, expected {expected[first]}"
            )
        rest = np.array(arena)
        for index in {*touches(self.node)} - {*operands(self.node)}:
            own, datatype = self.site.view(index), self.values[index].datatype
            _writable(own, rest, datatype)[...] = _writable(own, before, datatype)
        if (rest != before).any():
            at = int(np.flatnonzero(rest != before)[0])
            raise AssertionError(
                f"{int((rest != before).sum())} bytes of the arena outside y were written, first "
                f"byte {at} (y begins at {view.pointer.offset})"
            )


def _writable(view: View, arena: Bytes, datatype: str) -> Array:
    """Return the elements of y that a kernel may write: with the padding, where it owns that."""
    if not view.owns_padding or len(view.shape) < 2:
        return elements(view, arena, datatype)
    whole = dataclasses.replace(view, shape=(*view.shape[:-1], view.pitch))
    return elements(whole, arena, datatype)


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
