"""A data plane without engines behind a real gRPC server, and clients of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from edgeq.serve.calls import Calls, RequestRecord
from edgeq.serve.grpc.frontend import GrpcFrontend, GrpcOptions, GrpcParts
from edgeq.serve.http.threads import Threads
from edgeq.serve.limits import Limits
from edgeq.serve.rights import Rights
from edgeq.serve.server import Server
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from edgeq.tls import TlsOptions
from tests.serve.conftest import MAX_BODY_BYTES, FakeDataPlane

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass
class Serving:
    """A server in a thread, what stands behind it, and clients."""

    server: Server
    frontend: GrpcFrontend
    thread: threading.Thread
    plane: FakeDataPlane
    regions: SharedMemory
    threads: Threads
    records: list[RequestRecord]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.frontend.port}"

    def client(self) -> triton.InferenceServerClient:
        return triton.InferenceServerClient(self.address, channel_args=UNLIMITED)

    def call(self, name: str, content: bytes = b"", **options: Any) -> Any:
        """Send bytes as a unary call; returns those that come back."""
        with grpc.insecure_channel(self.address, options=UNLIMITED) as channel:
            method = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            return method(content, timeout=options.pop("timeout", 10), **options)

    def stop(self, grace_s: float = 5) -> None:
        self.server.stop(grace_s)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.stop()
        self.regions.close()
        self.threads.close()
        self.plane.pool.shutdown(wait=True, cancel_futures=True)


StartGrpc = Callable[..., Serving]


@pytest.fixture(autouse=True)
def _grpc_has_nothing_to_complain_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    complaints = [each for each in caplog.get_records("call") if each.name.startswith("grpc")]
    assert [each.getMessage() for each in complaints if each.levelno >= logging.WARNING] == []


@pytest.fixture
def start_grpc() -> Iterator[StartGrpc]:
    """Start servers; keywords are `timeout_s`, `rights`, `tls`, and fields of Limits."""
    started: list[Serving] = []

    def begin(
        *,
        timeout_s: float = 5,
        rights: Rights | None = None,
        tls: TlsOptions | None = None,
        **limits: Any,
    ) -> Serving:
        plane, regions, threads = FakeDataPlane(), SharedMemory(), Threads()
        records: list[RequestRecord] = []
        calls = Calls(plane, timeout_s, Statistics(), records.append)
        parts = GrpcParts(calls, rights or Rights(), regions, threads.run)
        bounds = Limits(**{"max_body_bytes": MAX_BODY_BYTES, **limits})
        frontend = GrpcFrontend(parts, GrpcOptions("127.0.0.1", 0, bounds, tls))
        server = Server([frontend])
        thread = threading.Thread(target=server.run)
        thread.start()
        started.append(Serving(server, frontend, thread, plane, regions, threads, records))
        server.wait_started()
        return started[-1]

    yield begin
    for serving in started:
        serving.close()


@pytest.fixture
def serving(start_grpc: StartGrpc) -> Serving:
    """One server with the usual options."""
    return start_grpc()


def tensor(name: str, array: np.ndarray, datatype: str = "") -> triton.InferInput:
    """An input as tritonclient sends it."""
    found = triton.InferInput(name, list(array.shape), datatype or datatype_of(array))
    found.set_data_from_numpy(array)
    return found


def datatype_of(array: np.ndarray) -> str:
    kinds = {"f": "FP", "i": "INT", "u": "UINT"}
    return "BOOL" if array.dtype.kind == "b" else f"{kinds[array.dtype.kind]}{array.itemsize * 8}"


ECHO = np.array([[1.5, -2.0, 0.0, 4.0]], np.float32)


@pytest.fixture
def echo() -> triton.InferInput:
    """What the model `echo` takes."""
    return tensor("x", ECHO)
