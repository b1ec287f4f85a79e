"""A model and some of its ops -> a model of those alone, so that a graph can run in parts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.tflite.model import Array, Model, indices
from edgeq.tflite.schema import schema

ENDS = ("inputs", "outputs", "intermediates")  # an op's vectors of tensors


def one_op(
    model: Model, operator: Any, shapes: Mapping[int, tuple[int, ...]]
) -> tuple[Model, list[int]]:
    """Return a model of `operator` alone, and the tensor of `model` behind each of its inputs.

    Args:
        model: where the op stands; neither it nor the op is changed.
        operator: one of its ops.
        shapes: the real shapes of the tensors that will be fed; the file's may be placeholders.
    """
    tensors = [*indices(operator.inputs), *indices(operator.outputs)]
    own = list(dict.fromkeys(t for t in tensors if t >= 0))
    new = {old: position for position, old in enumerate(own)} | {-1: -1}
    fed = [t for t in dict.fromkeys(indices(operator.inputs)) if t in shapes]
    part = _empty_like(model)
    part.proto.operatorCodes = [model.proto.operatorCodes[operator.opcodeIndex]]
    for tensor in own:
        part.tensors.append(_tensor(model, part, tensor, shapes.get(tensor)))
    alone = copy.copy(operator)
    alone.opcodeIndex, alone.intermediates = 0, None
    alone.inputs = np.asarray([new[t] for t in indices(operator.inputs)], np.int32)
    alone.outputs = np.asarray([new[t] for t in indices(operator.outputs)], np.int32)
    part.operators.append(alone)
    part.graph.inputs = np.asarray([new[t] for t in fed], np.int32)
    part.graph.outputs = alone.outputs
    return part, fed


def some_ops(
    model: Model,
    positions: Iterable[int],
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    shapes: Mapping[int, tuple[int, ...]],
    constants: Mapping[int, Array],
) -> Model:
    """Return a model of the ops at `positions`, in that order; tensors keep their names.

    Args:
        model: where the ops stand; it is not changed.
        positions: of ops that need no tensor but constants, `inputs` and each other's.
        inputs: the tensors of `model` that are fed.
        outputs: the tensors of `model` that are wanted.
        shapes: the real shapes of tensors; the file's may be placeholders.
        constants: values of tensors that are none in the file.
    """
    operators = [model.operators[position] for position in positions]
    used = [t for op in operators for field in ENDS for t in indices(getattr(op, field))]
    own = list(dict.fromkeys(t for t in (*inputs, *used, *outputs) if t >= 0))
    new = {old: position for position, old in enumerate(own)} | {-1: -1}
    part, names = _empty_like(model), model.names()
    _keep_callees(model, part)
    for tensor in own:
        copied = _tensor(model, part, tensor, shapes.get(tensor))
        copied.name = names[tensor].encode()
        if tensor in constants and not model.is_constant(tensor):
            copied.buffer = part.add_buffer(constants[tensor])
        part.tensors.append(copied)
    for operator in operators:
        moved = copy.copy(operator)
        for field in ENDS:
            renumbered = [new[t] for t in indices(getattr(operator, field))]
            setattr(moved, field, np.asarray(renumbered, np.int32))
        part.operators.append(moved)
    part.graph.inputs = np.asarray([new[t] for t in inputs], np.int32)
    part.graph.outputs = np.asarray([new[t] for t in outputs], np.int32)
    return part


def _keep_callees(model: Model, part: Model) -> None:
    """Take over the subgraphs that WHILE and IF call, their buffers and every operator code."""
    part.proto.operatorCodes = model.proto.operatorCodes
    for callee in model.proto.subgraphs[1:]:
        kept = callee.copy()
        for tensor in kept.tensors:
            part.proto.buffers.append(model.proto.buffers[tensor.buffer])
            tensor.buffer = len(part.proto.buffers) - 1 if tensor.buffer else 0
        part.proto.subgraphs.append(kept)


def _empty_like(model: Model) -> Model:
    proto, graph = schema.ModelT(), schema.SubGraphT()
    proto.version = model.proto.version
    proto.buffers = [schema.BufferT()]  # buffer 0 is empty by convention
    graph.tensors, graph.operators = [], []
    proto.subgraphs = [graph]
    return Model(proto)


def _tensor(model: Model, part: Model, index: int, shape: tuple[int, ...] | None) -> Any:
    """Return a copy of a tensor, with its constant in a buffer of `part`."""
    tensor = copy.copy(model.tensors[index])
    tensor.buffer = 0
    if model.is_constant(index):
        part.proto.buffers.append(model.proto.buffers[model.tensors[index].buffer])
        tensor.buffer = len(part.proto.buffers) - 1
    if shape is not None:
        tensor.shape, tensor.shapeSignature = np.asarray(shape, np.int32), None
    return tensor
