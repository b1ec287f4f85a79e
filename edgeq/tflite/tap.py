"""A model -> the same model with every activation as an output, for the runtime that delegates.

`experimental_preserve_all_tensors` would do the same, but must switch XNNPACK off: measured 9.9
against 2.47 ms on ResNet large, 5.1 against 0.17 ms on VWW.
"""

from __future__ import annotations

import copy

import numpy as np

from edgeq.tflite.model import Model, indices

# Behind these an infinity need not be one any more: a mask before a softmax, a maximum's padding.
TAKE_INFINITY = frozenset(
    {"SOFTMAX", "EXP", "LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "MAX_POOL_2D",
     "MAXIMUM", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"}
)  # fmt: skip

UNPACKERS = frozenset({"DEQUANTIZE", "DENSIFY"})


def tappable(model: Model) -> list[int]:
    """Return the float activations in execution order: inputs first, then what ops write.

    Those that hold an infinity whatever the input say nothing, and are left out. So are the weights
    that a file keeps in float16 or sparse: a delegate that takes them as they are stored never
    writes what is made of them, so that an output there shows whatever the memory held.
    """
    written = [t for operator in model.operators for t in indices(operator.outputs)]
    candidates = dict.fromkeys([*model.inputs, *written])
    silent = _infinite(model) | _unpacked(model)
    return [
        i
        for i in candidates
        if model.type_name(i) == "FLOAT32" and not model.is_constant(i) and i not in silent
    ]


def _unpacked(model: Model) -> set[int]:
    """Return the constants in the form that their ops read them in."""
    unpacked: set[int] = set()
    for operator in model.operators:
        sources = indices(operator.inputs)[:1] if model.op_name(operator) in UNPACKERS else []
        if any(model.is_constant(t) or t in unpacked for t in sources):
            unpacked.update(indices(operator.outputs))
    return unpacked


def _infinite(model: Model) -> set[int]:
    """Return the tensors that an infinity in a constant reaches."""
    infinite: set[int] = set()
    for operator in model.operators:
        read = indices(operator.inputs)
        if model.op_name(operator) in TAKE_INFINITY:
            continue
        if infinite.intersection(read) or any(_holds_infinity(model, t) for t in read):
            infinite.update(indices(operator.outputs))
    return infinite


def _holds_infinity(model: Model, tensor: int) -> bool:
    is_plain = model.is_constant(tensor) and model.tensors[tensor].sparsity is None
    values = model.constant(tensor) if is_plain else None
    return values is not None and values.dtype == np.float32 and bool(np.isinf(values).any())


def tap(model: Model, tensors: list[int] | None = None) -> tuple[Model, list[int]]:
    """Return the model with other outputs: `tensors`, or every float activation an op writes.

    Only the outputs are its own; tensors and ops are those of the given model, and a change to them
    is one to both.

    The second value is the tensor index behind each output, in order; graph inputs
    are left out, for whoever runs it has them already.
    """
    inputs = set(model.inputs)
    chosen = [i for i in (tappable(model) if tensors is None else tensors) if i not in inputs]
    graph, proto = copy.copy(model.graph), copy.copy(model.proto)
    graph.outputs = np.asarray(chosen, np.int32)
    proto.subgraphs = [graph, *model.proto.subgraphs[1:]]
    proto.signatureDefs = []  # their output maps would no longer hold
    return Model(proto), chosen
