"""ModelInferRequest -> InferRequest; `response_message` is the way back. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.errors import InvalidRequestError
from edgeq.serve.grpc.messages import Message
from edgeq.serve.parameters import count, place, timeout_s
from edgeq.serve.requests import (
    InferRequest,
    RegionSlice,
    RequestedOutput,
    check_inputs,
    check_outputs,
)
from edgeq.serve.tensors import check_shape, check_size, datatype_of, dtype_of, from_binary, quoted
from edgeq.tflite.runtime import Array, TensorSpec

ReadRegion = Callable[[RegionSlice], memoryview]

# Where InferTensorContents keeps the values of a datatype. FP16 has no place there; and no model
# here takes BYTES.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
_WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}  # the others have their own type


def read_infer(
    message: Message,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    read_region: ReadRegion,
    time_left_s: float | None,
) -> InferRequest:
    """Read an infer request; raw inputs are views into the message's own bytes.

    Args:
        message: a ModelInferRequest.
        inputs: what the model takes; not checked where empty.
        outputs: what the model gives; not checked where empty.
        read_region: reads an input out of shared memory.
        time_left_s: until the client's own deadline, which bounds the request's timeout.

    Raises:
        InvalidRequestError: malformed, or not what the model takes.
    """
    parameters = parameters_of(message.parameters)
    request = InferRequest(
        id=message.id,
        inputs=_inputs(message, read_region),
        outputs=tuple(_output(entry) for entry in _distinct("outputs", message.outputs)),
        is_binary=True,
        timeout_s=_sooner(timeout_s(parameters), time_left_s),
        priority=count(parameters, "priority", "the request") or 0,
    )
    check_inputs(request.inputs, inputs)
    check_outputs(request.outputs, outputs)
    return request


def parameters_of(entries: Mapping[str, Message]) -> dict[str, Any]:
    """Return the values of a map of InferParameter or ModelRepositoryParameter, by name."""
    return {name: _value(entry) for name, entry in entries.items()}


def _value(entry: Message) -> Any:
    choice = entry.WhichOneof("parameter_choice")
    return None if choice is None else getattr(entry, choice)


def _sooner(asked_s: float | None, left_s: float | None) -> float | None:
    if left_s is None:
        return asked_s
    left_s = max(left_s, 1e-6)  # 0 would be no timeout at all
    return left_s if asked_s is None else min(asked_s, left_s)


def _distinct(field: str, entries: Iterable[Message]) -> Iterable[Message]:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise InvalidRequestError(f"{quoted(entry.name)} is in {field} twice; once is expected")
        seen.add(entry.name)
        yield entry


def _output(entry: Message) -> RequestedOutput:
    if not entry.parameters:
        return RequestedOutput(entry.name, is_binary=True)
    where = f"output {quoted(entry.name)}"
    parameters = parameters_of(entry.parameters)
    return RequestedOutput(
        name=entry.name,
        is_binary=True,
        classes=count(parameters, "classification", where) or 0,
        place=place(parameters, where),
    )


def _inputs(message: Message, read_region: ReadRegion) -> dict[str, Array]:
    if not message.inputs:
        raise InvalidRequestError("the request has no inputs; one or more are expected")
    raw = iter(message.raw_input_contents)
    is_raw = bool(message.raw_input_contents)
    arrays = {
        entry.name: _input(entry, raw, read_region, is_raw=is_raw)
        for entry in _distinct("inputs", message.inputs)
    }
    left = sum(1 for _ in raw)
    if left:
        raise InvalidRequestError(
            f"raw_input_contents has {left} more than the inputs that are not in shared memory; "
            "one each is expected"
        )
    return arrays


def _input(entry: Message, raw: Iterator[bytes], read_region: ReadRegion, *, is_raw: bool) -> Array:
    name, shape = entry.name, check_shape(entry.name, list(entry.shape))
    dtype = _dtype(name, entry.datatype)
    source = _source(entry) if entry.parameters else None
    if (is_raw or source is not None) and entry.HasField("contents"):
        other = "shared_memory_region" if source is not None else "raw_input_contents"
        raise InvalidRequestError(
            f"input {quoted(name)} has contents beside {other}; one of them is taken"
        )
    if source is not None:
        check_size(name, source.size, dtype, shape)  # before as much is copied
        return from_binary(name, read_region(source), dtype, shape)
    if not is_raw:
        return _from_contents(name, entry.contents, dtype, shape)
    content = next(raw, None)
    if content is None:
        raise InvalidRequestError(
            f"input {quoted(name)} has no entry in raw_input_contents; one is expected"
        )
    return from_binary(name, memoryview(content), dtype, shape)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype == "BYTES":
        raise InvalidRequestError(
            f"input {quoted(name)} has datatype BYTES; models here take numbers only"
        )
    return dtype_of(name, datatype)


def _source(entry: Message) -> RegionSlice | None:
    return place(parameters_of(entry.parameters), f"input {quoted(entry.name)}")


def _from_contents(
    name: str, contents: Message, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array:
    where, datatype = f"input {quoted(name)}", datatype_of(dtype)
    field = CONTENTS.get(datatype)
    if field is None:
        raise InvalidRequestError(f"{where} is {datatype}, which only raw_input_contents can carry")
    filled = [found.name for found, _ in contents.ListFields()]
    if filled != [field]:
        has = " and ".join(filled) or "no contents"
        raise InvalidRequestError(f"{where} of {datatype} has {has}; {field} is expected")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise InvalidRequestError(
            f"{where} has {len(values)} values; "
            f"shape {quoted(list(shape))} takes {math.prod(shape)}"
        )
    array: Array = np.fromiter(values, _WIDE.get(field, dtype), len(values))
    return _narrow(where, array, dtype).reshape(shape)


def _narrow(where: str, array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype == dtype:
        return array
    limits = np.iinfo(dtype)
    if array.min() < limits.min or array.max() > limits.max:
        raise InvalidRequestError(f"{where} holds a value beyond what {datatype_of(dtype)} can")
    return array.astype(dtype)
