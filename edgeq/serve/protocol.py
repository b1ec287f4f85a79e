"""Body and header length of an infer request -> InferRequest; `response` is the way back.

Open Inference Protocol v2 over HTTP with Triton's binary tensor, classification and schedule
policy extensions. Pure: knows no HTTP framework.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from edgeq.errors import InvalidRequestError
from edgeq.serve.tensors import (
    check_shape,
    datatype_of,
    dtype_of,
    from_binary,
    from_json,
    quoted,
)
from edgeq.tflite.runtime import Array, TensorSpec


@dataclass(frozen=True)
class RequestedOutput:
    """One output that the client names; `classes` > 0 asks for that many best classes."""

    name: str
    is_binary: bool
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """What a client wants run; no `outputs` means all of them."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[RequestedOutput, ...] = ()
    is_binary: bool = False
    timeout_s: float | None = None


def parse_infer(
    body: bytes,
    header_length: str | None,
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
) -> InferRequest:
    """Read an infer request; the arrays are views into `body` where they came as bytes.

    Args:
        body: the whole body, decompressed.
        header_length: the value of Inference-Header-Content-Length, None where absent.
        inputs: what the model takes; not checked where empty.
        outputs: what the model gives; not checked where empty.

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
        inputs=_parse_inputs(head, tail),
        outputs=_parse_outputs(head, parameters),
        is_binary=_flag(parameters, "binary_data_output", "the request"),
        timeout_s=_timeout_s(parameters),
    )
    tail.check_end()
    _check_inputs(request.inputs, inputs)
    _check_outputs(request.outputs, outputs)
    return request


def load_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object, strictly: UTF-8, no NaN, no infinity.

    Raises:
        InvalidRequestError: it is something else.
    """
    try:
        value = json.loads(text.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise InvalidRequestError("the body is nested too deeply to be a request") from error
    except ValueError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"the body is {quoted(value)}; a JSON object is expected")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidRequestError(
        f"the body holds {text}, which JSON does not have; finite numbers are expected",
        hint="Send the tensor as binary data.",
    )


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


def _refuse_shared_memory(parameters: Mapping[str, Any], where: str) -> None:
    if "shared_memory_region" in parameters:
        raise InvalidRequestError(
            f"{where} is in shared memory, which is not built yet",
            hint="Send the tensor as binary data.",
        )


def _parse_inputs(head: Mapping[str, Any], tail: _Tail) -> dict[str, Array]:
    entries = _entries(head, "inputs")
    if not entries:
        raise InvalidRequestError("the request has no inputs; one or more are expected")
    return {entry["name"]: _parse_input(entry, tail) for entry in entries}


def _parse_input(entry: Mapping[str, Any], tail: _Tail) -> Array:
    name = entry["name"]
    where = f"input {quoted(name)}"
    dtype, shape = dtype_of(name, entry.get("datatype")), check_shape(name, entry.get("shape"))
    parameters = _parameters(entry, where)
    _refuse_shared_memory(parameters, where)
    size = _count(parameters, "binary_data_size", where)
    if (size is None) == (entry.get("data") is None):
        has = "neither" if size is None else "both"
        raise InvalidRequestError(f"{where} has {has} of data and binary_data_size; one is taken")
    if size is None:
        return from_json(name, entry["data"], dtype, shape)
    return from_binary(name, tail.take(name, size), dtype, shape)


def _parse_outputs(
    head: Mapping[str, Any], parameters: Mapping[str, Any]
) -> tuple[RequestedOutput, ...]:
    default = _flag(parameters, "binary_data_output", "the request")
    return tuple(_parse_output(entry, default) for entry in _entries(head, "outputs"))


def _parse_output(entry: Mapping[str, Any], default: bool) -> RequestedOutput:
    where = f"output {quoted(entry['name'])}"
    parameters = _parameters(entry, where)
    _refuse_shared_memory(parameters, where)
    return RequestedOutput(
        name=entry["name"],
        is_binary=_flag(parameters, "binary_data", where, default=default),
        classes=_count(parameters, "classification", where) or 0,
    )


def _check_inputs(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> None:
    if not specs:
        return
    names = [spec.name for spec in specs]
    if unknown := set(arrays).difference(names):
        raise InvalidRequestError(
            f"input {quoted(min(unknown))} is unknown; the model takes {quoted(names)}"
        )
    for spec in specs:
        if spec.name not in arrays:
            raise InvalidRequestError(
                f"input {spec.name!r} is missing; the model takes {quoted(names)}"
            )
        _check_input(arrays[spec.name], spec)


def _check_input(array: Array, spec: TensorSpec) -> None:
    if array.dtype != spec.dtype:
        raise InvalidRequestError(
            f"input {spec.name!r} has datatype {datatype_of(array.dtype)}; "
            f"the model takes {datatype_of(spec.dtype)}"
        )
    if not spec.accepts(array.shape):
        raise InvalidRequestError(
            f"input {spec.name!r} has shape {list(array.shape)}; the model takes {list(spec.shape)}"
        )


def _check_outputs(requested: Sequence[RequestedOutput], specs: Sequence[TensorSpec]) -> None:
    names = [spec.name for spec in specs]
    for output in requested:
        if names and output.name not in names:
            raise InvalidRequestError(
                f"output {quoted(output.name)} is unknown; the model gives {quoted(names)}"
            )
