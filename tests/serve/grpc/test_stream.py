"""Requests and answers of one stream, in order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from edgeq.serve.grpc.stream import DEPTH
from tests.serve.grpc.conftest import ECHO, Serving, StartGrpc, tensor

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


def request(number: int, model: str = "echo") -> bytes:
    message = triton.service_pb2.ModelInferRequest(model_name=model, id=str(number))
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    message.raw_input_contents.append((ECHO + number).tobytes())
    return bytes(message.SerializeToString())


def response(content: bytes) -> Any:
    return triton.service_pb2.ModelStreamInferResponse.FromString(content)


class Stream:
    """A stream whose requests are sent one by one."""

    def __init__(self, serving: Serving) -> None:
        self._channel = grpc.insecure_channel(serving.address)
        self._requests: queue.Queue[bytes | None] = queue.Queue()
        self.answers = self._channel.stream_stream(PATH)(iter(self._requests.get, None), timeout=20)

    def send(self, content: bytes) -> None:
        self._requests.put(content)

    def end(self) -> None:
        self._requests.put(None)

    def close(self) -> None:
        self.end()
        self._channel.close()


@pytest.fixture
def stream(serving: Serving) -> Iterator[Stream]:
    made = Stream(serving)
    yield made
    made.close()


def eventually(is_so: Any, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.01)


def test_nvidias_client_streams(serving: Serving, echo: triton.InferInput) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with serving.client() as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(5):
            mine = tensor("x", ECHO + number)
            client.async_stream_infer(
                "echo", [mine], request_id=str(number), enable_empty_final_response=True
            )
        client.async_stream_infer("unheard", [echo], request_id="6")
        client.async_stream_infer("echo", [echo], request_id="7")
        found = [answers.get(timeout=10) for _ in range(7)]
        client.stop_stream()
    for number, (result, error) in enumerate(found[:5]):
        assert error is None
        assert result.get_response().id == str(number)
        assert result.get_response().parameters["triton_final_response"].bool_param
        np.testing.assert_array_equal(result.as_numpy("y"), ECHO + number)
    assert "model 'unheard' is unknown" in str(found[5][1])
    assert found[6][0].get_response().id == "7"
    assert [each.code for each in serving.records] == ["OK"] * 5 + ["NOT_FOUND", "OK"]


def test_answers_keep_the_order_of_their_requests(serving: Serving, stream: Stream) -> None:
    first_may_end = threading.Event()

    def slow_first(inputs: Any) -> Any:
        if inputs["x"][0, 1] == ECHO[0, 1]:
            assert first_may_end.wait(10)
        return {"y": inputs["x"]}

    serving.plane.behave = slow_first
    for number in range(4):
        stream.send(request(number))
    eventually(lambda: len(serving.plane.submitted) == 4)  # while the first one is not answered
    first_may_end.set()
    found = [response(next(stream.answers)) for _ in range(4)]
    assert [each.infer_response.id for each in found] == ["0", "1", "2", "3"]


def test_an_error_names_its_request_and_the_stream_goes_on(stream: Stream) -> None:
    stream.send(request(1, "cold"))
    stream.send(b"\xff")
    stream.send(request(2))
    stream.end()
    found = [response(content) for content in stream.answers]
    assert [bool(each.error_message) for each in found] == [True, True, False]
    assert [each.infer_response.id for each in found] == ["1", "", "2"]
    assert stream.answers.code() is grpc.StatusCode.OK


def test_a_stream_has_a_bounded_number_of_requests_inside(serving: Serving, stream: Stream) -> None:
    may_end = threading.Event()

    def wait(inputs: Any) -> Any:
        assert may_end.wait(10)
        return {"y": inputs["x"]}

    serving.plane.behave = wait
    for number in range(2 * DEPTH):
        stream.send(request(number))
    stream.end()
    eventually(lambda: len(serving.plane.submitted) == DEPTH)
    time.sleep(0.1)  # for the one too many that should not come
    assert len(serving.plane.submitted) == DEPTH
    may_end.set()
    assert len(list(stream.answers)) == 2 * DEPTH


def test_a_cancelled_stream_leaves_nothing_behind(serving: Serving, stream: Stream) -> None:
    may_end = threading.Event()
    serving.plane.behave = lambda inputs: may_end.wait(10) and {"y": inputs["x"]}
    for number in range(8):
        stream.send(request(number))
    eventually(lambda: len(serving.plane.submitted) == 8)
    stream.answers.cancel()
    eventually(lambda: len(serving.records) == 8)
    may_end.set()
    assert {each.code for each in serving.records} == {"CANCELLED"}
    eventually(lambda: not serving.frontend._gate._inside)
    assert serving.frontend._gate._held_bytes == 0


def test_too_large_a_message_ends_the_stream(start_grpc: StartGrpc) -> None:
    stream = Stream(start_grpc(max_body_bytes=1000))
    stream.send(request(1))
    assert response(next(stream.answers)).infer_response.id == "1"
    stream.send(bytes(2000))
    with pytest.raises(grpc.RpcError, match="larger than max"):
        next(stream.answers)
    assert stream.answers.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stream.close()


def test_idle_streams_leave_room_for_calls(start_grpc: StartGrpc) -> None:
    serving = start_grpc(max_connections=4)
    streams = [Stream(serving) for _ in range(3)]
    for number, stream in enumerate(streams[:2]):
        stream.send(request(number))
        next(stream.answers)
    with pytest.raises(grpc.RpcError, match="2 streams are open"):
        next(streams[2].answers)
    assert serving.call("ModelReady", b"\x0a\x04echo") == b"\x08\x01"
    for stream in streams:
        stream.close()


def test_an_idle_stream_does_not_hold_up_the_end(serving: Serving, stream: Stream) -> None:
    stream.send(request(1))
    next(stream.answers)
    before = time.monotonic()
    serving.stop(grace_s=10)
    assert time.monotonic() - before < 5
    with pytest.raises(grpc.RpcError, match="shutting down"):
        next(stream.answers)
    assert stream.answers.code() is grpc.StatusCode.UNAVAILABLE


def test_what_is_inside_a_stream_is_answered_before_the_end(
    serving: Serving, stream: Stream
) -> None:
    may_end = threading.Event()
    serving.plane.behave = lambda inputs: may_end.wait(10) and {"y": inputs["x"]}
    stream.send(request(1))
    eventually(lambda: len(serving.plane.submitted) == 1)
    stopping = threading.Thread(target=serving.stop)
    stopping.start()
    eventually(lambda: serving.frontend._gate.is_stopping)
    may_end.set()
    assert response(next(stream.answers)).infer_response.id == "1"
    stopping.join(20)
