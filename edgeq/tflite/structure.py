"""A parsed model -> nothing, or StructureError: what must hold before any C++ code sees the file.

`flatbuffer` proves that every offset lies inside the file; this proves that the graph means
something: indices in range, ops in an executable order, constants as long as their shapes.
tflite-runtime 2.14 dies of SIGSEGV on files that break these rules.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.errors import StructureError, UnsupportedModelError
from edgeq.tflite.model import DTYPES, Model, indices

MAX_ELEMENTS = 1 << 28  # 1 GiB of float32: a tensor beyond this cannot be real on an edge box
MAX_RANK = 32  # the runtimes' ops go to 8; the bound keeps the product of extents cheap

# Op -> the first of its inputs that -1 may leave out: a bias, an LSTM's gates. Kernels of other ops
# follow the null pointer: LiteRT 2.3 dies of SIGSEGV on a STRIDED_SLICE without its begin.
FIRST_OPTIONAL_INPUT = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": 1,
    "BIDIRECTIONAL_SEQUENCE_RNN": 1,
    "CONV_2D": 2,
    "CONV_3D": 2,
    "CONV_3D_TRANSPOSE": 3,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "LSTM": 1,
    "SVDF": 3,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
}

# Ops that run another subgraph, and the options that name it.
CALLS = {
    "IF": ("thenSubgraphIndex", "elseSubgraphIndex"),
    "WHILE": ("condSubgraphIndex", "bodySubgraphIndex"),
    "CALL_ONCE": ("initSubgraphIndex",),
    "CALL": ("subgraph",),
}


def check_structure(model: Model) -> None:
    """Check indices, execution order, shapes and constant sizes of every subgraph.

    Raises:
        StructureError: names the tensor or op, what it is and what was expected.
        UnsupportedModelError: a constant lies outside the flatbuffer.
    """
    for graph in model.subgraphs():
        if not graph.graph.tensors:
            raise _fail("a graph has no tensors")
        for index in range(len(graph.tensors)):
            _check_tensor(graph, index)
        _check_interface(graph)
        _check_order(graph)
    _check_calls(model)
    _check_metadata(model)
    _check_signatures(model)
    if not model.inputs or not model.outputs:
        raise _fail(f"the graph has {len(model.inputs)} inputs and {len(model.outputs)} outputs")


def _fail(what: str) -> StructureError:
    return StructureError(what, hint="Copy or export the file again: it is damaged.")


def _check_tensor(model: Model, index: int) -> None:
    tensor, buffers = model.tensors[index], len(model.proto.buffers)
    if not 0 <= tensor.buffer < buffers:
        raise _fail(f"tensor {index} names buffer {tensor.buffer}; the file has {buffers}")
    _check_shape(model, index)
    _check_name(tensor, index)
    type_name = model.type_name(index)
    if type_name == "UNKNOWN":
        raise _fail(f"tensor {index} has the unknown type {tensor.type}")
    if _is_outside(model, tensor):
        raise UnsupportedModelError(
            f"constant {index} lies outside the flatbuffer; edgeq takes models of one piece",
            hint="Export the model without external buffers; they are for more than 2 GB.",
        )
    if model.is_constant(index) and type_name in DTYPES and tensor.sparsity is None:
        _check_constant(model, index, type_name)
    _check_quantization(model, index)


def _check_shape(model: Model, index: int) -> None:
    for vector in (model.tensors[index].shape, model.tensors[index].shapeSignature):
        if vector is not None and len(vector) > MAX_RANK:
            raise _fail(f"tensor {index} has {len(vector)} dimensions; the most are {MAX_RANK}")
    shape = model.shape(index)
    if any(extent < 0 for extent in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise _fail(f"tensor {index} has the impossible shape {list(shape)}")


def _check_name(tensor: Any, index: int) -> None:
    try:
        (tensor.name or b"").decode()
    except UnicodeDecodeError:  # the interpreter would raise the same, once it is loaded
        raise _fail(f"tensor {index} has the name {tensor.name!r}, which is not UTF-8") from None


def _is_outside(model: Model, tensor: Any) -> bool:
    """True where the values lie after the flatbuffer or in another file (schema: Buffer)."""
    buffer = model.proto.buffers[tensor.buffer]
    appended = buffer.data is None and buffer.offset > 1 and buffer.size > 1
    return appended or getattr(tensor, "externalBuffer", 0) != 0


def _check_constant(model: Model, index: int, type_name: str) -> None:
    elements = math.prod(model.shape(index))
    expected = (elements + 1) // 2 if type_name == "INT4" else elements * DTYPES[type_name].itemsize
    actual = len(model.proto.buffers[model.tensors[index].buffer].data)
    if actual != expected:
        raise _fail(
            f"constant {index} ({type_name} {list(model.shape(index))}) holds {actual} bytes; "
            f"its shape needs {expected}"
        )


def _check_quantization(model: Model, index: int) -> None:
    quantization = model.quantization(index)
    if quantization is None:
        return
    shape, scales = model.shape(index), len(quantization.scale)
    if not np.isfinite(quantization.scale).all():
        raise _fail(f"tensor {index} has a scale that is no number: {quantization.scale[:8]}")
    if len(quantization.zero_point) not in (1, scales):
        raise _fail(
            f"tensor {index} has {scales} scales and {len(quantization.zero_point)} zero points"
        )
    if scales > 1 and (
        not 0 <= quantization.axis < len(shape) or shape[quantization.axis] != scales
    ):
        raise _fail(
            f"tensor {index} has {scales} scales along dimension {quantization.axis} "
            f"of shape {list(shape)}"
        )


def _check_interface(model: Model) -> None:
    count = len(model.tensors)
    for what, group in (("input", model.inputs), ("output", model.outputs)):
        for index in group:
            if not 0 <= index < count:
                raise _fail(f"the graph's {what} is tensor {index}; the file has {count}")


def _check_order(model: Model) -> None:
    ready = {i for i in range(len(model.tensors)) if _has_values(model, i)} | set(model.inputs)
    written: set[int] = set()
    for position, operator in enumerate(model.operators):
        _check_operator(model, position, operator)
        for tensor in indices(operator.inputs):
            if tensor >= 0 and tensor not in ready and tensor not in written:
                raise _fail(f"op {position} reads tensor {tensor} before it is written")
        for tensor in indices(operator.outputs):
            if tensor in written or model.is_constant(tensor):
                raise _fail(f"op {position} writes tensor {tensor}, which has its values already")
            written.add(tensor)
    for tensor in model.outputs:
        if tensor not in ready and tensor not in written:
            raise _fail(f"the graph's output, tensor {tensor}, is written by no op")


def _has_values(model: Model, index: int) -> bool:
    """True where no op must write the tensor before one reads it."""
    is_empty = 0 in model.shape(index)
    return is_empty or model.is_constant(index) or bool(model.tensors[index].isVariable)


def _check_operator(model: Model, position: int, operator: Any) -> None:
    count, codes = len(model.tensors), len(model.proto.operatorCodes)
    if not 0 <= operator.opcodeIndex < codes:
        raise _fail(f"op {position} names operator code {operator.opcodeIndex} of {codes}")
    for verb, lowest, tensors in (
        ("reads", -1, operator.inputs),  # -1 is an optional input left out
        ("writes", 0, operator.outputs),
        ("keeps", -1, operator.intermediates),
    ):
        for tensor in indices(tensors):
            if not lowest <= tensor < count:
                raise _fail(f"op {position} {verb} tensor {tensor}; the file has {count}")
    _check_left_out(model, position, operator)


def _check_left_out(model: Model, position: int, operator: Any) -> None:
    inputs, name = indices(operator.inputs), model.op_name(operator)
    if -1 not in inputs or name.startswith(("CUSTOM", "UNKNOWN")):
        return
    if inputs.index(-1) < FIRST_OPTIONAL_INPUT.get(name, len(inputs)):
        raise _fail(f"op {position} ({name}) has no input {inputs.index(-1)}; it cannot do without")


def _check_calls(model: Model) -> None:
    """Every called subgraph exists, and none comes back to itself, for that would never end."""
    graphs = model.subgraphs()
    calls = [_called(graph) for graph in graphs]
    for caller, group in enumerate(calls):
        for callee in group:
            if not 0 <= callee < len(graphs):
                raise _fail(f"subgraph {caller} calls subgraph {callee}; there are {len(graphs)}")
    ended: set[int] = set()
    while len(ended) < len(graphs):
        ending = {i for i, group in enumerate(calls) if i not in ended and group <= ended}
        if not ending:
            raise _fail("a subgraph calls itself")
        ended |= ending


def _check_metadata(model: Model) -> None:
    """The runtimes ignore a wrong index; what packs the buffers anew cannot."""
    buffers = len(model.proto.buffers)
    named = [int(entry.buffer) for entry in model.proto.metadata or []]
    for buffer in [*named, *indices(model.proto.metadataBuffer)]:
        if not 0 <= buffer < buffers:
            raise _fail(f"metadata names buffer {buffer}; the file has {buffers}")


def _check_signatures(model: Model) -> None:
    graphs = model.subgraphs()
    for signature in model.proto.signatureDefs or []:
        graph = int(signature.subgraphIndex)
        if graph >= len(graphs):
            raise _fail(f"a signature names subgraph {graph}; there are {len(graphs)}")
        tensors = len(graphs[graph].tensors)
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            if entry.tensorIndex >= tensors:
                raise _fail(f"a signature names tensor {entry.tensorIndex}; there are {tensors}")


def _called(model: Model) -> set[int]:
    return {
        int(getattr(operator.builtinOptions, field))
        for operator in model.operators
        for field in CALLS.get(model.op_name(operator), ())
        if hasattr(operator.builtinOptions, field)
    }
