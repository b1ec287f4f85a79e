"""InferRequest and the outputs -> body and header length of the response; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from edgeq.errors import InvalidRequestError
from edgeq.serve.requests import InferRequest, RegionSlice, RequestedOutput
from edgeq.serve.tensors import bytes_to_binary, classify, datatype_of, quoted, to_binary, to_json
from edgeq.tflite.runtime import Array

WriteRegion = Callable[[RegionSlice, Any], None]


class InferResponse(NamedTuple):
    """A body in parts; `header_length` is the JSON's where raw tensors follow."""

    parts: tuple[Any, ...]
    header_length: int | None


@dataclass(slots=True)
class _Parts:
    """A response in the making: the JSON's outputs and the raw tensors in their order."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)

    def add_raw(self, name: str, datatype: str, shape: list[int], raw: Any) -> None:
        size = {"binary_data_size": len(raw)}
        self.entries.append(
            {"name": name, "datatype": datatype, "shape": shape, "parameters": size}
        )
        self.raw.append(raw)

    def add(self, name: str, datatype: str, shape: list[int], data: list[Any]) -> None:
        self.entries.append({"name": name, "datatype": datatype, "shape": shape, "data": data})


def encode_infer(
    request: InferRequest,
    model: str,
    version: str,
    outputs: Mapping[str, Array],
    write_region: WriteRegion | None = None,
) -> InferResponse:
    """Write the response: each output as JSON, raw, or into shared memory, as the request asks.

    Raises:
        InvalidRequestError: an output was asked for that is not there, or does not fit its place.
        EngineError: an output cannot be sent.
    """
    wanted = request.outputs or [RequestedOutput(name, request.is_binary) for name in outputs]
    _check_present(wanted, outputs)
    parts = _Parts()
    for output in wanted:
        if output.place is None:
            _encode_output(parts, output, outputs[output.name])
        else:
            parts.entries.append(_place_output(output, outputs[output.name], write_region))
    head = {"model_name": model, "model_version": version, "outputs": parts.entries}
    if request.id:
        head["id"] = request.id
    text = orjson.dumps(head)
    return InferResponse((text, *parts.raw), len(text) if parts.raw else None)


def _place_output(
    output: RequestedOutput, array: Array, write_region: WriteRegion | None
) -> dict[str, Any]:
    """Put an output where the client said, and return what the JSON says of it."""
    place = output.place
    assert place is not None, "what the caller asked"
    if write_region is None:
        raise InvalidRequestError(
            f"output {quoted(output.name)} is to go into shared memory, of which there is none"
        )
    shape, datatype, raw = _raw(output, array)
    if len(raw) > place.size:
        raise InvalidRequestError(
            f"output {quoted(output.name)} has {len(raw)} bytes; "
            f"its place in shared memory has {place.size}"
        )
    write_region(place, raw)
    parameters = {
        "shared_memory_region": place.region,
        "shared_memory_byte_size": len(raw),
        **({"shared_memory_offset": place.offset} if place.offset else {}),
    }
    return {"name": output.name, "datatype": datatype, "shape": shape, "parameters": parameters}


def _raw(output: RequestedOutput, array: Array) -> tuple[list[int], str, Any]:
    """Return shape, datatype and bytes of an output."""
    if output.classes:
        shape, classes = classify(output.name, array, output.classes)
        return shape, "BYTES", bytes_to_binary(classes)
    raw = to_binary(output.name, array)
    return list(array.shape), datatype_of(array.dtype), raw


def _check_present(wanted: Sequence[RequestedOutput], outputs: Mapping[str, Array]) -> None:
    for output in wanted:
        if output.name not in outputs:
            raise InvalidRequestError(
                f"output {quoted(output.name)} is unknown; the model gives {quoted(list(outputs))}"
            )


def _encode_output(parts: _Parts, output: RequestedOutput, array: Array) -> None:
    name = output.name
    if output.is_binary:
        shape, datatype, raw = _raw(output, array)
        parts.add_raw(name, datatype, shape, raw)
    elif output.classes:
        shape, classes = classify(name, array, output.classes)
        parts.add(name, "BYTES", shape, classes)
    else:
        parts.add(name, datatype_of(array.dtype), list(array.shape), to_json(name, array))
