"""A parsed model -> nothing, or StructureError: what must hold before any C++ code sees the file.

The flatbuffer parser proves that every offset lies inside the file; this proves that the graph
means something: indices in range, ops in an executable order, constants as long as their shapes.
tflite-runtime 2.14 dies of SIGSEGV on files that break these rules.
"""

from __future__ import annotations

import math

from edgeq.errors import StructureError
from edgeq.tflite.model import DTYPES, Model, indices

MAX_ELEMENTS = 1 << 31  # a tensor beyond this cannot be real on an edge box


def check_structure(model: Model) -> None:
    """Check indices, execution order, shapes and constant sizes of the first subgraph.

    Raises:
        StructureError: names the tensor or op, what it is and what was expected.
    """
    for index in range(len(model.tensors)):
        _check_tensor(model, index)
    _check_interface(model)
    _check_order(model)


def _fail(what: str) -> StructureError:
    return StructureError(what, hint="Copy or export the file again: it is damaged.")


def _check_tensor(model: Model, index: int) -> None:
    tensor, shape = model.tensors[index], model.shape(index)
    buffers = len(model.proto.buffers)
    if not 0 <= tensor.buffer < buffers:
        raise _fail(f"tensor {index} names buffer {tensor.buffer}; the file has {buffers}")
    if any(extent < 0 for extent in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise _fail(f"tensor {index} has the impossible shape {list(shape)}")
    type_name = model.type_name(index)
    if type_name == "UNKNOWN":
        raise _fail(f"tensor {index} has the unknown type {tensor.type}")
    if model.is_constant(index) and type_name in DTYPES and tensor.sparsity is None:
        _check_constant(model, index, type_name)
    _check_quantization(model, index)


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
        if not group:
            raise _fail(f"the graph has no {what}")
        for index in group:
            if not 0 <= index < count:
                raise _fail(f"the graph's {what} is tensor {index}; the file has {count}")


def _check_order(model: Model) -> None:
    count, codes = len(model.tensors), len(model.proto.operatorCodes)
    ready = {
        i
        for i, t in enumerate(model.tensors)
        if model.is_constant(i) or t.isVariable or not t.buffer
    }
    ready -= {i for op in model.operators for i in indices(op.outputs)}
    ready |= set(model.inputs)
    for position, operator in enumerate(model.operators):
        if not 0 <= operator.opcodeIndex < codes:
            raise _fail(f"op {position} names operator code {operator.opcodeIndex} of {codes}")
        for tensor in indices(operator.inputs):
            if not -1 <= tensor < count:
                raise _fail(f"op {position} reads tensor {tensor}; the file has {count}")
            if tensor >= 0 and tensor not in ready and _is_written(model, tensor):
                raise _fail(f"op {position} reads tensor {tensor} before it is written")
        for tensor in indices(operator.outputs):
            if not 0 <= tensor < count:
                raise _fail(f"op {position} writes tensor {tensor}; the file has {count}")
            ready.add(tensor)


def _is_written(model: Model, tensor: int) -> bool:
    return any(tensor in indices(operator.outputs) for operator in model.operators)
