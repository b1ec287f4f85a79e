"""InferRequest and the outputs -> body and header length of the response; pure, as `protocol`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.protocol import InferRequest, RequestedOutput
from edgeq.serve.tensors import bytes_to_binary, classify, datatype_of, quoted, to_binary, to_json
from edgeq.tflite.runtime import Array


@dataclass(frozen=True)
class InferResponse:
    """A body; `header_length` is the JSON's part of it where raw tensors follow."""

    body: bytes
    header_length: int | None


@dataclass
class _Parts:
    """A response in the making: the JSON's outputs and the raw tensors in their order."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)

    def add(self, entry: dict[str, Any], data: list[Any] | None, raw: Any) -> None:
        if data is not None:
            self.entries.append({**entry, "data": data})
            return
        self.entries.append({**entry, "parameters": {"binary_data_size": len(raw)}})
        self.raw.append(raw)


def encode_infer(
    request: InferRequest, model: str, version: str, outputs: Mapping[str, Array]
) -> InferResponse:
    """Write the response: each output as JSON or raw, as the request asks.

    Raises:
        InvalidRequestError: an output was asked for that is not there.
        EngineError: an output cannot be sent.
    """
    every = tuple(RequestedOutput(name, request.is_binary) for name in outputs)
    wanted = request.outputs or every
    _check_present(wanted, outputs)
    parts = _Parts()
    for output in wanted:
        _encode_output(parts, output, outputs[output.name])
    head = {"model_name": model, "model_version": version, "outputs": parts.entries}
    if request.id:
        head["id"] = request.id
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    is_binary = any("parameters" in entry for entry in parts.entries)
    return InferResponse(b"".join([text, *parts.raw]), len(text) if is_binary else None)


def _check_present(wanted: Sequence[RequestedOutput], outputs: Mapping[str, Array]) -> None:
    for output in wanted:
        if output.name not in outputs:
            raise InvalidRequestError(
                f"output {quoted(output.name)} is unknown; the model gives {quoted(list(outputs))}"
            )


def _encode_output(parts: _Parts, output: RequestedOutput, array: Array) -> None:
    name = output.name
    if output.classes:
        shape, classes = classify(name, array, output.classes)
        entry = {"name": name, "datatype": "BYTES", "shape": shape}
        raw: Any = bytes_to_binary(classes)
        parts.add(entry, None if output.is_binary else classes, raw)
        return
    entry = {"name": name, "datatype": datatype_of(array.dtype), "shape": list(array.shape)}
    if output.is_binary:
        parts.add(entry, None, to_binary(name, array))
    else:
        parts.add(entry, to_json(name, array), None)
