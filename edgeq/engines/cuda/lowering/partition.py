"""An INT8 model -> the parts that run on the GPU and those left to the CPU engine, in turns.

An op stays on the CPU where no node computes it bit for bit as the CPU engine does. Ops run as
early as their side allows, which makes as few parts as these sides can have; then small pieces
between CPU ops move over to them where that saves a crossing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeq.engines.cuda.lowering import graph as graphs
from edgeq.engines.cuda.lowering.assemble import assemble
from edgeq.engines.cuda.lowering.confirm import confirm
from edgeq.engines.cuda.lowering.graph import Graph, Op
from edgeq.engines.cuda.lowering.table import LoweredOp, Lowering, lower
from edgeq.engines.cuda.program.nodes import Convolution, Dense, Depthwise, Node, Program, Reshape
from edgeq.tflite.model import Model
from edgeq.tflite.part import some_ops

# A piece of at most this much is not worth two crossings. Measured on one x86 core: the CPU engine
# takes 5 us for a QUANTIZE of 73,728 values.
SMALL_ELEMENTS = 65_536
SMALL_PRODUCTS = 200_000
TOO_SMALL = "too little work to cross to the GPU and back for"


@dataclass(frozen=True, eq=False)
class GpuPart:
    """Ops that become kernels; the program's inputs and outputs are named."""

    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[int, ...]  # positions in the model


@dataclass(frozen=True, eq=False)
class CpuPart:
    """Ops that the CPU engine runs: a model of their own."""

    content: bytes  # .tflite; a Runner takes and gives the names below
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[int, ...]


Part = GpuPart | CpuPart


@dataclass(frozen=True)
class Reason:
    """Why an op stays on the CPU."""

    position: int  # in the model
    op: str
    reason: str


@dataclass(frozen=True, eq=False)
class Partition:
    """Parts in the order in which they run; what one gives, later ones take by name."""

    parts: tuple[Part, ...]
    reasons: tuple[Reason, ...]

    @property
    def is_whole(self) -> bool:
        """Say whether everything runs on the GPU, in one program."""
        return len(self.parts) == 1 and isinstance(self.parts[0], GpuPart)


def partition(model: Model, *, confirmed: bool = False) -> Partition:
    """Cut an INT8 model into parts; tensors between them keep the model's unique names.

    Args:
        model: any INT8 model that the CPU engine runs.
        confirmed: hold every op to this box's CPU engine first, which takes about as long as one
            inference by numpy.

    Raises:
        EngineError: an extent other than the batch is free.
    """
    graph = graphs.read(model)
    lowering = lower(model, graph)
    if confirmed:
        lowering = confirm(model, graph, lowering)
    sides = _Sides(graph, lowering)
    sides.move_small_pieces()
    parts = [_part(model, lowering, sides, p) for p in range(len(sides.parts))]
    return Partition((*parts, *_constants(model, graph)), tuple(sides.reasons()))


class _Sides:
    """Which ops run on the CPU, and what follows: parts, crossings."""

    def __init__(self, graph: Graph, lowering: Lowering) -> None:
        self.graph = graph
        self.ops = lowering.ops
        self._producers = graph.producers()
        self._on_cpu = {at for at, own in enumerate(lowering.ops) if own.reason}
        self._moved: set[int] = set()
        self.parts = self._scheduled(self._on_cpu)

    def is_cpu(self, part: int) -> bool:
        return self.parts[part][0] in self._on_cpu

    def reasons(self) -> Iterable[Reason]:
        for at in sorted(self._on_cpu):
            own = self.ops[at]
            reason = f"{own.op.name} is {TOO_SMALL}" if at in self._moved else own.reason
            yield Reason(own.op.position, own.op.name, reason)

    # ---- an order in as few parts as possible

    def _scheduled(self, on_cpu: set[int]) -> list[list[int]]:
        orders = [self._alternating(on_cpu, first) for first in (False, True)]
        return min(orders, key=len)

    def _alternating(self, on_cpu: set[int], cpu_first: bool) -> list[list[int]]:
        """Run all that one side can, then all that the other can, and so on."""
        parts: list[list[int]] = []
        left, done, turn = list(range(len(self.ops))), set[int](), cpu_first
        while left:
            part: list[int] = []
            for at in left:
                if (at in on_cpu) == turn and self._needs(at) <= done:
                    part.append(at)
                    done.add(at)
            left = [at for at in left if at not in done]
            turn = not turn
            if part:
                parts.append(part)
        return parts

    def _needs(self, at: int) -> set[int]:
        return {self._producers[t] for t in self.ops[at].op.inputs if t in self._producers}

    # ---- pieces that are not worth their crossings

    def move_small_pieces(self) -> None:
        """Give the CPU every small piece whose move saves a part or a crossing tensor."""
        cost, improved = self._cost(self._on_cpu), bool(self._on_cpu)
        while improved:
            improved = False
            for piece in sorted(self._small_pieces(), key=len):
                moved = self._on_cpu | piece
                if self._cost(moved) < cost:
                    cost, improved = self._cost(moved), True
                    self._on_cpu, self._moved = moved, self._moved | piece
                    self.parts = self._scheduled(moved)
                    break

    def _cost(self, on_cpu: set[int]) -> tuple[int, int]:
        """Return the number of parts, and of tensors that cross; the host is the CPU's side."""
        crossings = set()
        for at, own in enumerate(self.ops):
            here = at in on_cpu
            for tensor in own.op.inputs:
                if tensor >= 0 and not self.graph.tensors[tensor].is_given:
                    there = self._producers.get(tensor, -1)
                    if (there < 0 or there in on_cpu) != here:
                        crossings.add(tensor)
            crossings |= {t for t in own.op.outputs if not here and t in self.graph.outputs}
        return len(self._scheduled(on_cpu)), len(crossings)

    def _small_pieces(self) -> Iterable[set[int]]:
        """Yield the ops of each GPU part that hang together, where they do little."""
        for number, part in enumerate(self.parts):
            if self.is_cpu(number):
                continue
            for piece in self._connected(part):
                elements, products = (sum(w) for w in zip(*map(self._work, piece), strict=True))
                if elements <= SMALL_ELEMENTS and products <= SMALL_PRODUCTS:
                    yield piece

    def _connected(self, part: Sequence[int]) -> list[set[int]]:
        pieces: list[set[int]] = []
        for at in part:
            needs = self._needs(at)
            touching = [piece for piece in pieces if piece & needs]
            pieces = [piece for piece in pieces if piece not in touching]
            pieces.append({at}.union(*touching))
        return pieces

    def _work(self, at: int) -> tuple[int, int]:
        """Return how many elements an op writes and how many products it adds up."""
        own = self.ops[at]
        if all(isinstance(node, Reshape) for node in own.nodes):
            return 0, 0
        elements = sum(math.prod(self.graph.tensors[t].shape) for t in own.op.outputs)
        return elements, sum(elements * _depth(node) for node in own.nodes)


def _depth(node: Node) -> int:
    """Return how many products make one element."""
    if isinstance(node, Convolution | Dense):
        return math.prod(node.weights.shape[1:])
    return math.prod(node.window.size) if isinstance(node, Depthwise) else 0


def _part(model: Model, lowering: Lowering, sides: _Sides, number: int) -> Part:
    graph = sides.graph
    own = [sides.ops[at] for at in sides.parts[number]]
    inputs, outputs = _ends(graph, [each.op for each in own])
    names = [tuple(graph.tensors[t].name for t in ends) for ends in (inputs, outputs)]
    positions = tuple(each.op.position for each in own)
    if not sides.is_cpu(number):
        program = assemble(lowering, own, inputs, outputs)
        return GpuPart(program, names[0], names[1], positions)
    content = _cpu_model(model, graph, own, inputs, outputs).to_bytes()
    return CpuPart(content, names[0], names[1], positions)


def _constants(model: Model, graph: Graph) -> Iterable[Part]:
    """Yield the part without ops that gives what the model gives out whatever its input is."""
    given = [t for t in dict.fromkeys(graph.outputs) if graph.tensors[t].constant is not None]
    if given:
        content = _cpu_model(model, graph, [], [], given).to_bytes()
        yield CpuPart(content, (), tuple(graph.tensors[t].name for t in given), ())


def _ends(graph: Graph, ops: Sequence[Op]) -> tuple[list[int], list[int]]:
    """Return the tensors that some ops take from others, and those that others take from them."""
    written = {t: None for op in ops for t in op.outputs}
    inside = {op.position for op in ops}
    read = dict.fromkeys(t for op in ops for t in op.inputs if t >= 0 and t not in written)
    elsewhere = {t for op in graph.ops if op.position not in inside for t in op.inputs}
    inputs = [t for t in read if t in graph.inputs or not graph.tensors[t].is_given]
    outputs = [t for t in written if t in elsewhere or t in graph.outputs]
    return _in_order(inputs, graph.inputs), _in_order(outputs, graph.outputs)


def _in_order(tensors: list[int], first: Sequence[int]) -> list[int]:
    """Return the model's own tensors in the model's order, then the others."""
    own = [t for t in dict.fromkeys(first) if t in tensors]
    return own + [t for t in tensors if t not in own]


def _cpu_model(
    model: Model, graph: Graph, own: Sequence[LoweredOp], inputs: list[int], outputs: list[int]
) -> Model:
    return some_ops(
        model,
        [each.op.position for each in own],
        inputs,
        outputs,
        shapes={t: tensor.shape for t, tensor in enumerate(graph.tensors)},
        constants={
            t: tensor.constant
            for t, tensor in enumerate(graph.tensors)
            if tensor.constant is not None
        },
    )
