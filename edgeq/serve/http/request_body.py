"""Body and header length of an infer request -> InferRequest; `response_body` is the way back.

Open Inference Protocol v2 over HTTP with Triton's binary tensor, classification, schedule policy
and shared memory extensions. Pure: knows no HTTP framework.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson

from edgeq.errors import InvalidRequestError, UnavailableError
from edgeq.serve.http.content import decompress
from edgeq.serve.http.messages import Request
from edgeq.serve.parameters import count, flag, place, timeout_s
from edgeq.serve.requests import (
    InferRequest,
    RegionSlice,
    RequestedOutput,
    check_inputs,
    check_outputs,
)
from edgeq.serve.tensors import check_shape, check_size, dtype_of, from_binary, from_json, quoted
from edgeq.tflite.runtime import Array, TensorSpec

ReadRegion = Callable[[RegionSlice], memoryview]
REMEMBERED_HEADS = 256
REMEMBERED_BYTES = 2048  # of a head; beyond it there are values in it, which differ each time


@dataclass(frozen=True, slots=True)
class _Input:
    """Where an input is: `size` bytes after the JSON, at a `place`, or here already."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    size: int | None = None
    place: RegionSlice | None = None
    array: Array | None = None


@dataclass(frozen=True, slots=True)
class InferHead:
    """All that the JSON of an infer request says."""

    id: str
    inputs: tuple[_Input, ...]
    outputs: tuple[RequestedOutput, ...]
    is_binary: bool
    timeout_s: float | None
    priority: int


Specs = Sequence[TensorSpec]
ReadHead = Callable[[bytes, Specs, Specs], InferHead]


def parse_head(text: bytes) -> InferHead:
    """Read the JSON of an infer request.

    Raises:
        InvalidRequestError: it is malformed.
    """
    head = load_object(text)
    parameters = _parameters(head, "the request")
    return InferHead(
        id=_id(head),
        inputs=_parse_inputs(head),
        outputs=_parse_outputs(head, parameters),
        is_binary=flag(parameters, "binary_data_output", "the request"),
        timeout_s=timeout_s(parameters),
        priority=count(parameters, "priority", "the request") or 0,
    )


def read_head(text: bytes, inputs: Specs, outputs: Specs) -> InferHead:
    """Read the JSON of an infer request, and hold it against what the model takes and gives.

    Raises:
        InvalidRequestError: it is malformed, or not for this model.
    """
    head = parse_head(text)
    check_inputs({each.name: each for each in head.inputs}, inputs)
    check_outputs(head.outputs, outputs)
    return head


def remembering_heads() -> ReadHead:
    """Return `read_head` with a memory: a client sends the same head again and again.

    That takes 12 of the 33 us off a request for a binary tensor, the wire not counted.
    """
    known: dict[bytes, tuple[InferHead, Specs, Specs]] = {}

    def read(text: bytes, inputs: Specs, outputs: Specs) -> InferHead:
        found = known.get(text)
        if found is not None and found[1] is inputs and found[2] is outputs:
            return found[0]
        head = read_head(text, inputs, outputs)
        if len(text) <= REMEMBERED_BYTES:
            if len(known) >= REMEMBERED_HEADS:
                del known[next(iter(known))]  # the oldest
            known[text] = head, inputs, outputs
        return head

    return read


def parse_infer(
    body: bytes | bytearray,
    header_length: str | None,
    inputs: Specs = (),
    outputs: Specs = (),
    read_region: ReadRegion | None = None,
    head_of: ReadHead = read_head,
) -> InferRequest:
    """Read an infer request; the arrays are views into `body` where they came as bytes.

    Args:
        body: the whole body, decompressed.
        header_length: the value of Inference-Header-Content-Length, None where absent.
        inputs: what the model takes; not checked where empty.
        outputs: what the model gives; not checked where empty.
        read_region: reads an input out of shared memory; None where there is none.
        head_of: reads and checks the JSON.

    Raises:
        InvalidRequestError: malformed, or not what the model takes.
        UnavailableError: raw bytes for a model whose inputs are not known now.
    """
    length = _header_length(header_length, len(body))
    content = memoryview(body).toreadonly()
    if length == 0:
        return _parse_raw(content, inputs)
    head = head_of(bytes(body if length is None else body[:length]), inputs, outputs)
    tail = _Tail(content, len(body) if length is None else length)
    request = InferRequest(
        id=head.id,
        inputs={each.name: _array(each, tail, read_region) for each in head.inputs},
        outputs=head.outputs,
        is_binary=head.is_binary,
        timeout_s=head.timeout_s,
        priority=head.priority,
    )
    tail.check_end()
    return request


def _array(source: _Input, tail: _Tail, read_region: ReadRegion | None) -> Array:
    if source.array is not None:
        return source.array
    if source.place is None:
        assert source.size is not None, "an input is somewhere"
        content = tail.take(source.name, source.size)
    elif read_region is None:
        where = _Tensor("input", source.name)
        raise InvalidRequestError(f"{where} is in shared memory, of which there is none here")
    else:
        check_size(
            source.name, source.place.size, source.dtype, source.shape
        )  # before it is copied
        content = read_region(source.place)
    return from_binary(source.name, content, source.dtype, source.shape)


def load_object(text: bytes | bytearray) -> dict[str, Any]:
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


@dataclass(slots=True)
class _Tail:
    """The raw tensors after the JSON, taken in order."""

    content: memoryview
    offset: int

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
    # isdigit alone takes digits of every script
    length = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else size + 1
    if length > size:
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {quoted(text)}; "
            f"a number up to the body's {size} bytes is expected"
        )
    return length


def _parse_raw(body: memoryview, inputs: Sequence[TensorSpec]) -> InferRequest:
    if not inputs:  # an unloaded model's; the request is submitted and told so otherwise
        raise UnavailableError("the body is raw binary, and no engine is there to say what of")
    if len(inputs) != 1:
        names = [spec.name for spec in inputs]
        raise InvalidRequestError(
            f"the body is raw binary; only a model with one input takes that, not {quoted(names)}"
        )
    spec = inputs[0]
    shape = _raw_shape(spec, len(body))
    array = from_binary(spec.name, body, spec.dtype, shape)
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


class _Tensor(NamedTuple):
    """An input or output as errors name it: quoted only for them, which takes 1.2 us."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.name)}"


def _parameters(entry: Mapping[str, Any], where: object) -> dict[str, Any]:
    value = entry.get("parameters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"{where} has parameters {quoted(value)}; a JSON object is expected"
        )
    return value


def _entries(head: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list `key`; each entry is an object with a name of its own."""
    entries = head.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list) or not set(map(type, entries)) <= {dict}:
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


def _parse_inputs(head: Mapping[str, Any]) -> tuple[_Input, ...]:
    entries = _entries(head, "inputs")
    if not entries:
        raise InvalidRequestError("the request has no inputs; one or more are expected")
    return tuple(map(_parse_input, entries))


def _parse_input(entry: Mapping[str, Any]) -> _Input:
    name = entry["name"]
    where = _Tensor("input", name)
    dtype, shape = dtype_of(name, entry.get("datatype")), check_shape(name, entry.get("shape"))
    parameters = _parameters(entry, where)
    size, source = count(parameters, "binary_data_size", where), place(parameters, where)
    data = entry.get("data")
    absent = (size is None) + (source is None) + (data is None)
    if absent != 2:
        has = "none" if absent == 3 else "more than one"
        raise InvalidRequestError(
            f"{where} has {has} of data, binary_data_size and shared_memory_region; one is taken"
        )
    if data is None:
        return _Input(name, dtype, shape, size, source)
    array = from_json(name, data, dtype, shape)
    array.flags.writeable = False  # as bytes are: the head may be remembered
    return _Input(name, dtype, shape, array=array)


def _parse_outputs(
    head: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[RequestedOutput, ...]:
    default = flag(parameters, "binary_data_output", "the request")
    return tuple(_parse_output(entry, default) for entry in _entries(head, "outputs"))


def _parse_output(entry: Mapping[str, Any], default: bool) -> RequestedOutput:
    name = entry["name"]
    where = _Tensor("output", name)
    parameters = _parameters(entry, where)
    return RequestedOutput(
        name=name,
        is_binary=flag(parameters, "binary_data", where, default=default),
        classes=count(parameters, "classification", where) or 0,
        place=place(parameters, where),
    )
