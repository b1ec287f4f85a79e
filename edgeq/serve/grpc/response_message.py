"""InferRequest and the outputs -> the bytes of a ModelInferResponse. Pure.

A protobuf message is the concatenation of its fields. So the tensors are joined behind what
protobuf wrote of the rest: each is copied once on its way out, where handing them to the message
would copy them three times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.requests import InferRequest, RegionSlice, RequestedOutput
from edgeq.serve.tensors import bytes_to_binary, classify, datatype_of, quoted, to_binary
from edgeq.tflite.runtime import Array

WriteRegion = Callable[[RegionSlice, Any], None]

_BYTES = 2  # protobuf's wire type of a field with a length
_RAW_OUTPUT = bytes([6 << 3 | _BYTES])  # ModelInferResponse.raw_output_contents
_INFER_RESPONSE = bytes([2 << 3 | _BYTES])  # ModelStreamInferResponse.infer_response


class ResponseWriter:
    """Writes responses of one model's answer after the other."""

    def __init__(self, messages: Messages, write_region: WriteRegion) -> None:
        self._response = messages["ModelInferResponse"]
        self._write_region = write_region

    def parts(
        self, request: InferRequest, model: str, version: str, outputs: Mapping[str, Array]
    ) -> list[Any]:
        """Return a ModelInferResponse in parts that are to be joined.

        Raises:
            InvalidRequestError: an output was asked for that is not there, or does not fit its
                place.
            EngineError: an output cannot be sent.
        """
        response = self._response(model_name=model, model_version=version, id=request.id)
        wanted = request.outputs or tuple(RequestedOutput(name, True) for name in outputs)
        tail: list[Any] = []
        for output in wanted:
            raw = self._add(response, output, outputs)
            if output.place is None:
                tail += [_RAW_OUTPUT + _varint(len(raw)), raw]
        return [response.SerializeToString(), *tail]

    def _add(self, response: Message, output: RequestedOutput, outputs: Mapping[str, Array]) -> Any:
        """Name an output in the response; returns its bytes, unless they went elsewhere."""
        array = outputs.get(output.name)
        if array is None:
            raise InvalidRequestError(
                f"output {quoted(output.name)} is unknown; the model gives {quoted(list(outputs))}"
            )
        raw: Any
        if output.classes:
            shape, classes = classify(output.name, array, output.classes)
            datatype, raw = "BYTES", bytes_to_binary(classes)
        else:
            shape, raw = list(array.shape), to_binary(output.name, array)
            datatype = datatype_of(array.dtype)
        entry = response.outputs.add(name=output.name, datatype=datatype, shape=shape)
        if output.place is not None:
            self._write_region(output.place, raw)
            entry.parameters["shared_memory_region"].string_param = output.place.region
            entry.parameters["shared_memory_byte_size"].int64_param = len(raw)
            if output.place.offset:
                entry.parameters["shared_memory_offset"].int64_param = output.place.offset
        return raw


def in_stream(parts: list[Any]) -> list[Any]:
    """Wrap the parts of a response into a ModelStreamInferResponse."""
    return [_INFER_RESPONSE + _varint(sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    """Encode a number as protobuf does: 7 bits a byte, the lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
