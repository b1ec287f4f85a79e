"""Deadlines, cancelled calls, and what one client may take of the server."""

from __future__ import annotations

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.serve.conftest import MAX_BODY_BYTES
from tests.serve.grpc.conftest import ECHO, Serving, StartGrpc, tensor
from tests.serve.grpc.test_refusals import infer_request, refused
from tests.serve.grpc.test_stream import eventually


class Held:
    """A model that answers once it may; used as `behave`."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def __call__(self, inputs: Any) -> Any:
        assert self.may_end.wait(20)
        return {"y": inputs["x"]}


@pytest.fixture
def held(serving: Serving) -> Any:
    serving.plane.behave = model = Held()
    yield model
    model.may_end.set()


def test_a_timeout_is_kept(serving: Serving, held: Held, echo: triton.InferInput) -> None:
    no_answer = pytest.raises(InferenceServerException, match=r"no answer within 0\.05 s")
    with serving.client() as client, no_answer as late:
        client.infer("echo", [echo], timeout=50_000)
    assert late.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert [each.code for each in serving.records] == ["DEADLINE_EXCEEDED"]


def test_a_clients_deadline_ends_the_wait(
    serving: Serving, held: Held, echo: triton.InferInput
) -> None:
    too_late = pytest.raises(InferenceServerException, match=r"Deadline Exceeded|no answer within")
    with serving.client() as client, too_late:
        client.infer("echo", [echo], client_timeout=0.2)
    eventually(lambda: [each.code for each in serving.records] == ["DEADLINE_EXCEEDED"])
    eventually(lambda: not serving.frontend._gate._inside)


def test_a_cancelled_call_is_cancelled_in_the_queue(serving: Serving, held: Held) -> None:
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [method.future(infer_request(), timeout=10) for _ in range(6)]
        eventually(lambda: len(serving.plane.submitted) == 6)  # of which 4 run
        for call in calls:
            call.cancel()
        eventually(lambda: len(serving.records) == 6)
    assert {each.code for each in serving.records} == {"CANCELLED"}
    assert serving.frontend._gate._held_bytes == 0
    assert not serving.frontend._gate._inside


def test_too_large_a_message_is_refused(serving: Serving) -> None:
    error = refused(serving, "ModelInfer", bytes(MAX_BODY_BYTES + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.details()
    assert refused(serving, "RepositoryModelLoad", bytes(MAX_BODY_BYTES + 1)).code() is error.code()


def test_a_message_may_not_grow_beyond_the_bound_when_it_is_unpacked(serving: Serving) -> None:
    bomb = bytes(64 << 20)
    error = refused(serving, "ModelInfer", bomb, compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert serving.records == []


def test_the_largest_message_is_taken(start_grpc: StartGrpc) -> None:
    serving = start_grpc(max_body_bytes=8 << 20)
    big = np.arange(1 << 20, dtype=np.float32).reshape(-1, 2)
    b = np.zeros(2, np.int32)
    with serving.client() as client:
        result = client.infer("pair", [tensor("a", big), tensor("b", b)])
    np.testing.assert_array_equal(result.as_numpy("a"), big)


def test_more_calls_than_may_be_inside_are_refused(start_grpc: StartGrpc) -> None:
    serving = start_grpc(max_connections=3)
    serving.plane.behave = model = Held()
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [method.future(infer_request(), timeout=10) for _ in range(3)]
        eventually(lambda: len(serving.plane.submitted) == 3)
        error = refused(serving, "ModelInfer", infer_request())
        assert serving.client().is_server_ready()  # whatever else is going on
        model.may_end.set()
        assert all(call.result() for call in calls)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "3 calls are being answered" in error.details()


def test_more_bytes_than_may_be_held_are_refused(start_grpc: StartGrpc) -> None:
    size = len(infer_request())
    serving = start_grpc(max_buffered_bytes=2 * size)
    serving.plane.behave = model = Held()
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [method.future(infer_request(), timeout=10) for _ in range(2)]
        eventually(lambda: len(serving.plane.submitted) == 2)
        error = refused(serving, "ModelInfer", infer_request())
        model.may_end.set()
        assert all(call.result() for call in calls)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert f"{size} more would be over {2 * size}" in error.details()
    assert serving.frontend._gate._held_bytes == 0


class SlowClient:
    """HTTP/2 by hand: opens a call, then sends its message byte by byte, or not at all."""

    def __init__(self, serving: Serving, *, calls: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", serving.frontend.port), timeout=10)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(4, 0, 0, b"")  # SETTINGS
        if calls:
            self.call()

    def call(
        self,
        name: str = "inference.GRPCInferenceService/ModelInfer",
        stream: int = 1,
        **metadata: str,
    ) -> None:
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/{name}",
            ":authority": "edgeq",
            "te": "trailers",
            "content-type": "application/grpc",
            **metadata,
        }
        block = b"".join(
            b"\x00" + b"".join(bytes([len(part)]) + part.encode("latin-1") for part in field)
            for field in fields.items()
        )
        self.frame(1, 0x4, stream, block)  # HEADERS, complete

    def frame(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        head = struct.pack(">I", len(content))[1:] + bytes([kind, flags])
        self.socket.sendall(head + struct.pack(">I", stream) + content)

    def received(self, expected: bytes, seconds: float = 10) -> bytes:
        until, found = time.monotonic() + seconds, b""
        while expected not in found:
            assert time.monotonic() < until, found
            found += self.socket.recv(65536)
        return found

    def close(self) -> None:
        self.socket.close()


def test_a_client_that_dribbles_is_cut_off(start_grpc: StartGrpc) -> None:
    serving = start_grpc(body_timeout_s=0.3)
    client = SlowClient(serving)
    try:
        message = infer_request()
        client.frame(0, 0, 1, b"\x00" + struct.pack(">I", len(message)))
        eventually(lambda: len(serving.frontend._gate._inside) == 1)
        client.frame(0, 0, 1, message[:1])
        client.received(b"the message was not sent, or its answer not taken, in time")
        eventually(lambda: not serving.frontend._gate._inside)
    finally:
        client.close()


def test_a_call_without_a_message_is_refused(serving: Serving) -> None:
    client = SlowClient(serving)
    try:
        client.frame(0, 0x1, 1, b"")  # DATA, the last of its stream
        client.received(b"the call brought no message")
    finally:
        client.close()


def test_a_client_that_hangs_up_in_the_middle_leaves_nothing(serving: Serving) -> None:
    client = SlowClient(serving)
    client.frame(0, 0, 1, b"\x00" + struct.pack(">I", 100))
    eventually(lambda: len(serving.frontend._gate._inside) == 1)
    client.close()
    eventually(lambda: not serving.frontend._gate._inside)


def test_an_unknown_call_whose_client_has_gone_is_no_news_for_the_log(serving: Serving) -> None:
    for _ in range(20):
        client = SlowClient(serving, calls=False)
        client.call("nobody/knows")
        client.frame(3, 0, 1, struct.pack(">I", 8))  # RST_STREAM: cancelled
        client.close()
    assert refused(serving, "ModelDream", b"").details().startswith("the call is unknown")


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(start_grpc: StartGrpc) -> None:
    serving = start_grpc(write_timeout_s=0.3)
    serving.plane.is_inline = True
    serving.plane.behave = lambda inputs: {"y": np.zeros(64 << 20, np.uint8)}
    client = SlowClient(serving)
    try:
        message = infer_request()
        client.frame(0, 0x1, 1, b"\x00" + struct.pack(">I", len(message)) + message)
        eventually(lambda: [each.code for each in serving.records] == ["OK"])
        assert serving.frontend._gate._inside
        eventually(lambda: not serving.frontend._gate._inside)
    finally:
        client.close()


def test_one_connection_too_many_is_closed(start_grpc: StartGrpc) -> None:
    serving = start_grpc(max_connections=2)
    clients = [SlowClient(serving) for _ in range(2)]
    for client in clients:
        client.received(b"\x04")  # its settings
    with socket.create_connection(("127.0.0.1", serving.frontend.port), timeout=5) as third:
        assert third.recv(100) == b""
    for client in clients:
        client.close()


@pytest.mark.parametrize("sent", [b"", b"PRI * HTT"])
def test_a_connection_that_does_not_begin_is_closed(start_grpc: StartGrpc, sent: bytes) -> None:
    serving = start_grpc(header_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", serving.frontend.port), timeout=5) as client:
        client.sendall(sent)
        while client.recv(1000):
            pass


def test_a_connection_that_is_not_used_is_closed(start_grpc: StartGrpc) -> None:
    client = SlowClient(start_grpc(idle_timeout_s=0.5), calls=False)
    try:
        client.received(b"connection idle")
    finally:
        client.close()


def test_many_clients_are_answered_at_once(serving: Serving) -> None:
    def ask(number: int) -> list[float]:
        with serving.client() as client:
            mine = ECHO + number
            answers = [client.infer("echo", [tensor("x", mine)]) for _ in range(20)]
        return [float(np.abs(each.as_numpy("y") - mine).max()) for each in answers]

    with ThreadPoolExecutor(8) as pool:
        differences = [each for found in pool.map(ask, range(8)) for each in found]
    assert differences == [0.0] * 160
    eventually(lambda: len(serving.records) == 160)


def test_a_call_that_the_queue_cancels_is_answered(serving: Serving, held: Held) -> None:
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [method.future(infer_request(), timeout=10) for _ in range(5)]
        eventually(lambda: len(serving.plane.submitted) == 5)
        serving.plane.pool.shutdown(wait=False, cancel_futures=True)  # one waits for a thread
        eventually(lambda: any(call.done() for call in calls))
        errors = [call.exception() for call in calls if call.done()]
        held.may_end.set()
    assert [str(each.details()) for each in errors] == ["the request was cancelled"]
