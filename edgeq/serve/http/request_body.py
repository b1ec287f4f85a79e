"""Body and header length of an infer request -> InferRequest; `response_body` is the way back.

Open Inference Protocol v2 over HTTP with Triton's binary tensor, classification, schedule policy
and shared memory extensions. Pure: knows no HTTP framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from edgeq.errors import InvalidRequestError
from edgeq.serve.http.content import decompress
from edgeq.serve.http.messages import Request
from edgeq.serve.requests import (
    InferRequest,
    RegionSlice,
    RequestedOutput,
    check_inputs,
    check_outputs,
)
from edgeq.serve.tensors import check_shape, dtype_of, from_binary, from_json, quoted
from edgeq.tflite.runtime import Array, TensorSpec

ReadRegion = Callable[[RegionSlice], memoryview]


def parse_infer(
    body: bytes,
    header_length: str | None,
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
    read_region: ReadRegion | None = None,
) -> InferRequest:
    """Read an infer request; the arrays are views into `body` where they came as bytes.

    Args:
        body: the whole body, decompressed.
        header_length: the value of Inference-Header-Content-Length, None where absent.
        inputs: what the model takes; not checked where empty.
        outputs: what the model gives; not checked where empty.
        read_region: reads an input out of shared memory; None where there is none.

    Raises:
        InvalidRequestError: malformed, or not what the model takes.
    """
    length = _header_length(header_length, len(body))
    if length == 0:
        return _parse_raw(body, inputs)
    head = load_object(body if length is None else body[:length])
    tail = _Tail(memoryview(b"") if length is None else memoryview(body)[length:])
    parameters = _parameters(head, "the request")
    request = InferRequest(
        id=_id(head),
        inputs=_parse_inputs(head, tail, read_region),
        outputs=_parse_outputs(head, parameters),
        is_binary=_flag(parameters, "binary_data_output", "the request"),
        timeout_s=_timeout_s(parameters),
        priority=_count(parameters, "priority", "the request") or 0,
    )
    tail.check_end()
    check_inputs(request.inputs, inputs)
    check_outputs(request.outputs, outputs)
    return request


def load_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object, strictly: UTF-8, no NaN, no infinity.

    Raises:
        InvalidRequestError: it is something else.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(
            f"the body is not JSON: {error}",
            hint="JSON has no NaN or infinity; send such a tensor as binary data.",
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"the body is {quoted(value)}; a JSON object is expected")
    return value


def read_object(request: Request) -> dict[str, Any]:
    """Read a body that is a JSON object, or nothing; errors as `load_object`."""
    body = request.body
    if b"content-encoding" in request.headers:
        body = decompress(request.header(b"content-encoding"), body, request.max_body_bytes)
    return load_object(body) if body.strip() else {}


@dataclass
class _Tail:
    """The raw tensors after the JSON, taken in order."""

    content: memoryview
    offset: int = 0

    def take(self, name: str, size: int) -> memoryview:
        left = len(self.content) - self.offset
        if size > left:
            raise InvalidRequestError(
                f"input {quoted(name)} has binary_data_size {size}; {left} bytes are left "
                "after the JSON and the inputs before it",
                hint="Send Inference-Header-Content-Length, the size of the JSON.",
            )
        self.offset += size
        return self.content[self.offset - size : self.offset]

    def check_end(self) -> None:
        if self.offset != len(self.content):
            raise InvalidRequestError(
                f"the body has {len(self.content) - self.offset} bytes after the last input; "
                "none are expected"
            )


def _header_length(text: str | None, size: int) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) > size:
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {quoted(text)}; "
            f"a number up to the body's {size} bytes is expected"
        )
    return int(text)


def _parse_raw(body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
    if len(inputs) != 1:
        names = [spec.name for spec in inputs]
        raise InvalidRequestError(
            f"the body is raw binary; only a model with one input takes that, not {quoted(names)}"
        )
    spec = inputs[0]
    shape = _raw_shape(spec, len(body))
    array = from_binary(spec.name, memoryview(body), spec.dtype, shape)
    return InferRequest(id="", inputs={spec.name: array}, is_binary=True)


def _raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    free = spec.shape.count(-1)
    if free > 1:
        raise InvalidRequestError(
            f"the body is raw binary; input {spec.name!r} has shape {list(spec.shape)}, "
            "which the size alone does not decide"
        )
    step = spec.dtype.itemsize * math.prod(extent for extent in spec.shape if extent != -1)
    if free and (not size or not step or size % step):
        raise InvalidRequestError(
            f"input {spec.name!r} has {size} bytes; a multiple of {step} is expected"
        )
    return tuple(size // step if extent == -1 else extent for extent in spec.shape)


def _id(head: Mapping[str, Any]) -> str:
    value = head.get("id")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequestError(f"id is {quoted(value)}; a string is expected")
    return value


def _parameters(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    value = entry.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"{where} has parameters {quoted(value)}; a JSON object is expected"
        )
    return value


def _flag(parameters: Mapping[str, Any], name: str, where: str, *, default: bool = False) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{where} has {name} {quoted(value)}; true or false is expected")
    return value


def _count(parameters: Mapping[str, Any], name: str, where: str) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidRequestError(
            f"{where} has {name} {quoted(value)}; an integer of 0 or more is expected"
        )
    return value


def _timeout_s(parameters: Mapping[str, Any]) -> float | None:
    microseconds = _count(parameters, "timeout", "the request")
    if not microseconds:  # 0 is "no timeout of its own", as in Triton
        return None
    return min(microseconds, 1 << 62) / 1e6


def _entries(head: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list `key`; each entry is an object with a name of its own."""
    entries = head.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidRequestError(f"{key} is {quoted(entries)}; a list of objects is expected")
    seen: set[str] = set()
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str):
            raise InvalidRequestError(
                f"an entry of {key} has name {quoted(name)}; a string is expected"
            )
        if name in seen:
            raise InvalidRequestError(f"{quoted(name)} is in {key} twice; once is expected")
        seen.add(name)
    return entries


def _place(parameters: Mapping[str, Any], where: str) -> RegionSlice | None:
    """Return where in shared memory the tensor lies, or None where it does not."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if not isinstance(region, str):
        raise InvalidRequestError(
            f"{where} has shared_memory_region {quoted(region)}; a string is expected"
        )
    size = _count(parameters, "shared_memory_byte_size", where)
    if size is None:
        raise InvalidRequestError(
            f"{where} is in shared memory and has no shared_memory_byte_size; bytes are expected"
        )
    return RegionSlice(region, _count(parameters, "shared_memory_offset", where) or 0, size)


def _parse_inputs(
    head: Mapping[str, Any], tail: _Tail, read_region: ReadRegion | None
) -> dict[str, Array]:
    entries = _entries(head, "inputs")
    if not entries:
        raise InvalidRequestError("the request has no inputs; one or more are expected")
    return {entry["name"]: _parse_input(entry, tail, read_region) for entry in entries}


def _parse_input(entry: Mapping[str, Any], tail: _Tail, read_region: ReadRegion | None) -> Array:
    name = entry["name"]
    where = f"input {quoted(name)}"
    dtype, shape = dtype_of(name, entry.get("datatype")), check_shape(name, entry.get("shape"))
    parameters = _parameters(entry, where)
    size, place = _count(parameters, "binary_data_size", where), _place(parameters, where)
    given = [size is not None, entry.get("data") is not None, place is not None]
    if given.count(True) != 1:
        has = "more than one" if any(given) else "none"
        raise InvalidRequestError(
            f"{where} has {has} of data, binary_data_size and shared_memory_region; one is taken"
        )
    if size is not None:
        return from_binary(name, tail.take(name, size), dtype, shape)
    if place is None:
        return from_json(name, entry["data"], dtype, shape)
    if read_region is None:
        raise InvalidRequestError(f"{where} is in shared memory, of which there is none here")
    return from_binary(name, read_region(place), dtype, shape)


def _parse_outputs(
    head: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[RequestedOutput, ...]:
    default = _flag(parameters, "binary_data_output", "the request")
    return tuple(_parse_output(entry, default) for entry in _entries(head, "outputs"))


def _parse_output(entry: Mapping[str, Any], default: bool) -> RequestedOutput:
    where = f"output {quoted(entry['name'])}"
    parameters = _parameters(entry, where)
    return RequestedOutput(
        name=entry["name"],
        is_binary=_flag(parameters, "binary_data", where, default=default),
        classes=_count(parameters, "classification", where) or 0,
        place=_place(parameters, where),
    )
