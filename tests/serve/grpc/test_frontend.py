"""The port: taken, bound, and left."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from edgeq.errors import EdgeqError
from edgeq.serve.calls import Calls
from edgeq.serve.grpc.frontend import GrpcFrontend, GrpcOptions
from edgeq.serve.grpc.service import GrpcParts
from edgeq.serve.http.threads import Threads
from edgeq.serve.rights import Rights
from edgeq.serve.server import Server
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from tests.serve.conftest import FakeDataPlane
from tests.serve.grpc.conftest import Serving
from tests.serve.grpc.test_limits import Held
from tests.serve.grpc.test_refusals import infer_request
from tests.serve.grpc.test_stream import eventually


def frontend(host: str, port: int) -> GrpcFrontend:
    calls = Calls(FakeDataPlane(), 5, Statistics(), lambda record: None)
    parts = GrpcParts(calls, Rights(), SharedMemory(), Threads().run)
    return GrpcFrontend(parts, GrpcOptions(host, port))


def start(host: str, port: int) -> int:
    async def begin_and_end() -> int:
        made = frontend(host, port)
        await made.start()
        try:
            async with grpc.aio.insecure_channel(f"localhost:{made.port}") as channel:
                method = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                assert await method(b"", timeout=10) == b"\x08\x01"
        finally:
            await made.stop(0)
        return made.port

    return asyncio.run(begin_and_end())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::", "::1"])
def test_every_way_to_write_this_box_is_understood(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    assert start(host, 0) > 0


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            EdgeqError, match=f"cannot listen on 127.0.0.1:{port}: Address"
        ) as error:
            start("127.0.0.1", port)
    assert "ss -ltnp" in error.value.hint


def test_a_server_that_cannot_start_says_so_to_who_waits_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server([frontend("127.0.0.1", taken.getsockname()[1])])
        thread = threading.Thread(target=server.run)
        thread.start()
        with pytest.raises(EdgeqError, match=r"Address already in use$"):
            server.wait_started()
        thread.join(10)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_box_is_named(host: str) -> None:
    with pytest.raises(EdgeqError, match=f"cannot listen on {host}:0") as error:
        start(host, 0)
    assert "Set server.host" in error.value.hint


def test_two_servers_do_not_share_a_port(serving: Serving) -> None:
    with pytest.raises(EdgeqError, match="in use"):
        start("127.0.0.1", serving.frontend.port)


def test_what_is_inside_is_answered_before_the_end(serving: Serving) -> None:
    serving.plane.behave = model = Held()
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        calls = [method.future(infer_request(), timeout=10) for _ in range(4)]
        eventually(lambda: len(serving.plane.submitted) == 4)
        stopping = threading.Thread(target=serving.stop)
        stopping.start()
        eventually(lambda: serving.frontend._gate.is_stopping)
        model.may_end.set()
        assert all(call.result() for call in calls)
        stopping.join(20)


def test_past_the_grace_calls_are_told_so(serving: Serving) -> None:
    serving.plane.behave = model = Held()
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call: Future[bytes] = method.future(infer_request(), timeout=10)
        eventually(lambda: len(serving.plane.submitted) == 1)
        before = time.monotonic()
        serving.stop(grace_s=0.1)
        assert time.monotonic() - before < 3
        with pytest.raises(grpc.RpcError, match="the server is shutting down") as told:
            call.result()
    model.may_end.set()
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]


def test_a_stop_under_load_fails_nothing_that_was_taken(
    serving: Serving, echo: triton.InferInput
) -> None:
    outcomes: list[str] = []

    def load() -> None:
        with serving.client() as client:
            for _ in itertools.count():
                try:
                    client.infer("echo", [echo])
                    outcomes.append("OK")
                except InferenceServerException as error:
                    outcomes.append(str(error.status()))
                    return

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    eventually(lambda: len(serving.records) > 40)
    serving.stop()
    for client in clients:
        client.join(20)
    assert {each.code for each in serving.records} == {"OK"}
    assert set(outcomes) == {"OK", "StatusCode.UNAVAILABLE"}
    assert outcomes.count("OK") == len(serving.records)


def test_it_may_be_stopped_without_ever_having_been_asked() -> None:
    async def begin_and_end() -> Any:
        made = frontend("127.0.0.1", 0)
        await made.start()
        await made.stop(5, park=True)

    asyncio.run(asyncio.wait_for(begin_and_end(), 3))
