"""An INT8 .tflite -> a small typed graph: real shapes, decoded options, integers folded.

The file's shapes can be placeholders (a RESHAPE to a computed shape says [1, 1, 4]): `simplify`
computes what does not depend on the input, and asks the runtime for every shape that follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import EngineError
from edgeq.tflite.model import DTYPES, Model, Quantization, indices
from edgeq.tflite.part import one_op
from edgeq.tflite.runtime import Runner

Array = npt.NDArray[Any]

READS_SHAPE_ONLY = {
    "SHAPE": lambda shape: np.array(shape),
    "RANK": lambda shape: np.array(len(shape)),
}
FREE = -1
# Ops whose results have as many elements as their inputs' values say: all of them, or by the
# inputs at these positions where those are not known beforehand.
COUNTS = frozenset({"UNIQUE", "WHERE"})
SHAPED_BY = {
    "ARG_MAX": (1,), "ARG_MIN": (1,), "BATCH_TO_SPACE_ND": (1, 2), "BROADCAST_TO": (1,),
    "EXPAND_DIMS": (1,), "FILL": (0,), "MEAN": (1,), "MIRROR_PAD": (1,),
    "NON_MAX_SUPPRESSION_V4": (2,), "NON_MAX_SUPPRESSION_V5": (2,), "ONE_HOT": (1,), "PAD": (1,),
    "PADV2": (1,), "RANGE": (0, 1, 2), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,), "RESIZE_NEAREST_NEIGHBOR": (1,), "SLICE": (1, 2),
    "SPACE_TO_BATCH_ND": (1, 2), "SPARSE_TO_DENSE": (1,), "SPLIT": (0,), "SPLIT_V": (1, 2),
    "STRIDED_SLICE": (1, 2, 3), "SUM": (1,), "TILE": (1,), "TOPK_V2": (1,), "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0,),
}  # fmt: skip
CALLS = frozenset({"CALL", "IF", "WHILE"})


@dataclass(frozen=True, eq=False)
class Tensor:
    """An edge of the graph; `constant` holds its values where they are known."""

    name: str
    shape: tuple[int, ...]
    type: str  # as in the schema, e.g. 'INT8'
    quantization: Quantization | None = None
    constant: Array | None = None
    is_variable: bool = False  # an op's state, there before the op writes it
    is_fixed: bool = True  # False: the values of other tensors decide its shape at run time

    @property
    def is_given(self) -> bool:
        """Say whether no op has to write it before one reads it."""
        return self.constant is not None or self.is_variable or 0 in self.shape

    @property
    def scale(self) -> np.float32:
        """The scale of a tensor that has only one."""
        scale: np.float32 = self._single().scale[0]
        return scale

    @property
    def zero_point(self) -> int:
        """The zero point of a tensor that has only one."""
        return int(self._single().zero_point[0])

    def _single(self) -> Quantization:
        if self.quantization is None or self.quantization.is_per_channel:
            raise EngineError(f"tensor {self.name!r} ({self.type}) has no single scale")
        return self.quantization


@dataclass(frozen=True, eq=False)
class Op:
    """One op: tensors by their position in the graph, -1 where one is left out."""

    name: str  # e.g. 'CONV_2D'
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]  # by the schema's names
    position: int  # among the model's operators


@dataclass(frozen=True, eq=False)
class Graph:
    """Ops in an order in which they can run."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def producers(self) -> dict[int, int]:
        """Return tensor -> position in `ops` of the op that writes it."""
        return {t: at for at, op in enumerate(self.ops) for t in op.outputs}


def read(model: Model) -> Graph:
    """Return the model's first graph with real shapes and everything constant folded.

    Raises:
        EngineError: an extent other than the batch is free, or the graph is not well formed.
    """
    graph = check(_as_written(model))
    return check(without_dead_ops(check(simplify(model, graph))))


def _as_written(model: Model) -> Graph:
    names = model.names()
    for index in model.inputs:
        signature = indices(model.tensors[index].shapeSignature)
        if FREE in signature[1:]:
            raise EngineError(
                f"input {names[index]!r} has the shape {signature}; only the batch may be free",
                hint="Export the model with fixed extents, or use the CPU engine.",
            )
    tensors = tuple(
        Tensor(
            name,
            model.shape(i),
            model.type_name(i),
            model.quantization(i),
            model.constant(i),
            bool(model.tensors[i].isVariable),
        )
        for i, name in enumerate(names)
    )
    ops = tuple(
        Op(model.op_name(operator), tuple(indices(operator.inputs)),
           tuple(indices(operator.outputs)), options(operator), position)
        for position, operator in enumerate(model.operators)
    )  # fmt: skip
    return Graph(tensors, ops, tuple(model.inputs), tuple(model.outputs))


class Options(dict[str, Any]):
    """An op's options; one that the file leaves out is 0, as the runtime reads it."""

    def __missing__(self, name: str) -> int:
        return 0


def options(operator: Any) -> Options:
    """Return an op's options, the schema's defaults included; vectors as lists."""
    table = operator.builtinOptions
    values = {} if table is None else vars(table)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
    return Options(plain)


def simplify(model: Model, graph: Graph) -> Graph:
    """Return the graph with shapes and constants as they really are, op by op."""
    tensors, kept = list(graph.tensors), []
    for op in graph.ops:
        results = _fold(model, op, tensors)
        if results is None:
            kept.append(op)
            results = _reshaped(model, op, tensors)
        for tensor, result in zip(op.outputs, results, strict=True):
            tensors[tensor] = result
    return dataclasses.replace(graph, tensors=tuple(tensors), ops=tuple(kept))


def _fold(model: Model, op: Op, tensors: list[Tensor]) -> list[Tensor] | None:
    """Return the op's outputs as constants, or None where they depend on the input.

    What the model gives out is left to an op.
    """
    if set(op.outputs) & set(model.outputs):
        return None
    read_shape = READS_SHAPE_ONLY.get(op.name)
    if read_shape is not None:
        result = tensors[op.outputs[0]]
        values = [read_shape(tensors[op.inputs[0]].shape).astype(DTYPES[result.type])]
    elif op.inputs and all(t < 0 or tensors[t].constant is not None for t in op.inputs):
        values = _run_alone(model, op, tensors)
    else:
        return None
    return [
        dataclasses.replace(tensors[t], shape=v.shape, constant=v)
        for t, v in zip(op.outputs, values, strict=True)
    ]


def _reshaped(model: Model, op: Op, tensors: list[Tensor]) -> list[Tensor]:
    if not _is_fixed(model, op, tensors):
        return [dataclasses.replace(tensors[t], is_fixed=False) for t in op.outputs]
    shapes = zip(op.outputs, _shapes(model, op, tensors), strict=True)
    return [dataclasses.replace(tensors[t], shape=shape) for t, shape in shapes]


def _is_fixed(model: Model, op: Op, tensors: list[Tensor]) -> bool:
    """Say whether the shapes of the op's results are known before it runs."""
    deciding = [op.inputs[p] for p in SHAPED_BY.get(op.name, ()) if p < len(op.inputs)]
    is_free = any(FREE in indices(model.tensors[t].shapeSignature) for t in op.outputs)
    return (
        op.name not in COUNTS
        and not (op.name in CALLS and is_free)
        and all(tensors[t].constant is not None for t in deciding)
        and all(tensors[t].is_fixed for t in op.inputs if t >= 0)
    )


def _run_alone(model: Model, op: Op, tensors: list[Tensor]) -> list[Array]:
    part, fed = _alone(model, op, tensors)
    runner = Runner(part.to_bytes())
    inputs = {s.name: tensors[t].constant for s, t in zip(runner.inputs, fed, strict=True)}
    results = runner.run({name: v for name, v in inputs.items() if v is not None})
    return [results[spec.name] for spec in runner.outputs]


def _shapes(model: Model, op: Op, tensors: list[Tensor]) -> list[tuple[int, ...]]:
    """Return the shapes of the op's outputs: the file's, unless an input is not as it says."""
    if not any(_differs(model, t, tensors[t]) for t in op.inputs if t >= 0):
        return [tensors[t].shape for t in op.outputs]
    part, _ = _alone(model, op, tensors)
    return [spec.shape for spec in Runner(part.to_bytes()).outputs]


def _differs(model: Model, index: int, tensor: Tensor) -> bool:
    was_folded = tensor.constant is not None and not model.is_constant(index)
    return was_folded or tensor.shape != model.shape(index)


def _alone(model: Model, op: Op, tensors: list[Tensor]) -> tuple[Model, list[int]]:
    """Return the op as a model, with what was folded in it as constants."""
    whole = Model(model.proto)
    part, fed = one_op(whole, model.operators[op.position], {
        t: tensors[t].shape for t in op.inputs if t >= 0 and not model.is_constant(t)
    })  # fmt: skip
    for own_tensor in part.tensors:
        own_tensor.shapeSignature = None  # a spec would say -1 for what is known now
    still_fed = []
    for own, tensor in zip(part.inputs, fed, strict=True):
        constant = tensors[tensor].constant
        if constant is None:
            still_fed.append((own, tensor))
        else:
            part.tensors[own].buffer = part.add_buffer(constant)
    part.graph.inputs = np.asarray([own for own, _ in still_fed], np.int32)
    return part, [tensor for _, tensor in still_fed]


def without_dead_ops(graph: Graph) -> Graph:
    """Return the graph without ops that no output needs."""
    needed, kept = set(graph.outputs), []
    for op in reversed(graph.ops):
        if needed & set(op.outputs):
            kept.append(op)
            needed |= set(op.inputs)
    return dataclasses.replace(graph, ops=tuple(reversed(kept)))


# ---- what must hold


def check(graph: Graph) -> Graph:
    """Return the graph.

    Raises:
        EngineError: an index, type, shape or constant does not fit, a tensor has two producers,
            or an op reads what is not there yet.
    """
    for tensor in graph.tensors:
        _check_tensor(tensor)
    ready = {i for i, tensor in enumerate(graph.tensors) if tensor.is_given} | set(graph.inputs)
    for op in graph.ops:
        _check_op(graph, op, ready)
        ready |= set(op.outputs)
    for index in graph.outputs:
        if index not in ready:
            raise EngineError(f"the output {graph.tensors[index].name!r} is written by no op")
    return graph


def _check_tensor(tensor: Tensor) -> None:
    if any(extent < 0 for extent in tensor.shape):
        raise EngineError(f"tensor {tensor.name!r} has the shape {list(tensor.shape)}")
    if tensor.constant is not None and tensor.constant.shape != tensor.shape:
        raise EngineError(
            f"constant {tensor.name!r} has the shape {list(tensor.constant.shape)}; "
            f"its tensor says {list(tensor.shape)}"
        )
    quantization = tensor.quantization
    if quantization is not None and not (
        np.isfinite(quantization.scale).all() and (quantization.scale > 0).all()
    ):
        raise EngineError(f"tensor {tensor.name!r} has a scale that is not a positive number")


def _check_op(graph: Graph, op: Op, ready: set[int]) -> None:
    for index in op.inputs:
        if index >= 0 and index not in ready:
            raise EngineError(
                f"op {op.position} ({op.name}) reads {graph.tensors[index].name!r} "
                "before it is written"
            )
    for index in op.outputs:
        if index in ready and not graph.tensors[index].is_variable:
            raise EngineError(
                f"op {op.position} ({op.name}) writes {graph.tensors[index].name!r}, "
                "which has its values already"
            )
