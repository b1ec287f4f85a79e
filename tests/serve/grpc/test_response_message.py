"""InferRequest and the outputs -> the bytes of a ModelInferResponse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.serve.grpc.messages import Messages
from edgeq.serve.grpc.response_message import ResponseWriter, in_stream
from edgeq.serve.requests import InferRequest, RegionSlice, RequestedOutput

MESSAGES = Messages()
OUTPUTS = {"a": np.array([[1, 2]], np.int16), "b": np.array([0.5], np.float64)}


def parts(*wanted: RequestedOutput, outputs: Any = OUTPUTS, written: Any = None) -> list[Any]:
    places = [] if written is None else written
    writer = ResponseWriter(MESSAGES, lambda place, raw: places.append((place, bytes(raw))))
    return writer.parts(InferRequest("7", {}, wanted), "m", "3", outputs)


def read(joined: list[Any]) -> Any:
    return service_pb2.ModelInferResponse.FromString(b"".join(joined))


def test_every_output_comes_where_none_is_named() -> None:
    response = read(parts())
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "7")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("a", "INT16", [1, 2]),
        ("b", "FP64", [1]),
    ]
    assert list(response.raw_output_contents) == [each.tobytes() for each in OUTPUTS.values()]


@given(st.integers(0, 20_000))
def test_an_output_of_any_size_is_read_as_it_was(size: int) -> None:
    outputs = {"y": np.arange(size, dtype=np.uint8)}
    response = read(parts(outputs=outputs))
    assert response.raw_output_contents[0] == outputs["y"].tobytes()
    wrapped = b"".join(in_stream(parts(outputs=outputs)))
    streamed = service_pb2.ModelStreamInferResponse.FromString(wrapped)
    assert streamed.infer_response == response


def test_an_output_that_is_not_contiguous_is_sent_in_its_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert read(parts(outputs={"y": array})).raw_output_contents[0] == array.tobytes()


def test_an_output_goes_where_it_is_asked_to() -> None:
    written: list[tuple[RegionSlice, bytes]] = []
    place = RegionSlice("r", 0, 99)
    response = read(parts(RequestedOutput("a", True, place=place), written=written))
    assert written == [(place, OUTPUTS["a"].tobytes())]
    assert not response.raw_output_contents
    told = response.outputs[0].parameters
    assert told["shared_memory_region"].string_param == "r"
    assert told["shared_memory_byte_size"].int64_param == 4
    assert "shared_memory_offset" not in told


def test_an_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"output 'z' is unknown; the model gives \['a'"):
        parts(RequestedOutput("z", True))


def test_an_output_without_a_datatype_is_an_engines_fault() -> None:
    with pytest.raises(EngineError, match="which the protocol cannot send"):
        parts(outputs={"y": np.zeros(1, np.complex64)})
