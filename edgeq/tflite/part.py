"""A model and one of its ops -> a model of that op alone, so that a graph can run step by step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeq.tflite.model import Model, indices
from edgeq.tflite.schema import schema


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
