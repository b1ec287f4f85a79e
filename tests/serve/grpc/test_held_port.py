"""gRPC clients that come while no process serves the port, and reach the next one."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import tritonclient.grpc as triton

from edgeq.errors import EdgeqError
from edgeq.serve.calls import Calls
from edgeq.serve.grpc import held_port
from edgeq.serve.grpc.frontend import GrpcFrontend, GrpcOptions, GrpcParts
from edgeq.serve.grpc.held_port import HeldPort, SharedAddress
from edgeq.serve.http.threads import Threads
from edgeq.serve.limits import Limits
from edgeq.serve.listening import open_listeners
from edgeq.serve.rights import Rights
from edgeq.serve.server import Server
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from edgeq.systemd import FdStore
from tests.serve.conftest import FakeDataPlane
from tests.service_manager import ServiceManager

ADDRESS = SharedAddress("grpc", "127.0.0.1", 0)


@contextmanager
def process(manager: ServiceManager, store: FdStore) -> Iterator[GrpcFrontend]:
    """What one process does with the port, from its start to its end."""
    (listener,) = open_listeners([ADDRESS], manager.passed(), store)
    plane, regions, threads = FakeDataPlane(), SharedMemory(), Threads()
    calls = Calls(plane, 5, Statistics(), lambda record: None)
    parts = GrpcParts(calls, Rights(), regions, threads.run)
    held = HeldPort(listener, store)
    frontend = GrpcFrontend(parts, GrpcOptions("127.0.0.1", 0, Limits()), held)
    server = Server([frontend])
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        server.wait_started()
        yield frontend
    finally:
        server.stop(5, park=True)
        thread.join(20)
        listener.close()
        regions.close()
        threads.close()
        plane.pool.shutdown()
        assert store.settle()


@contextmanager
def client(port: int) -> Iterator[triton.InferenceServerClient]:
    """A client with a connection of its own."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with triton.InferenceServerClient(f"127.0.0.1:{port}", channel_args=own) as made:
        yield made


def test_clients_that_come_between_two_processes_are_answered_by_the_next(
    manager: ServiceManager, store: FdStore, echo: triton.InferInput
) -> None:
    with process(manager, store) as first:
        port = first.port
        with client(port) as early:
            early.infer("echo", [echo], client_timeout=10)
    assert manager.stored == ["listener-grpc"]
    with ThreadPoolExecutor(3) as pool, client(port) as kept:
        waiting = [
            pool.submit(kept.infer, "echo", [echo], client_timeout=20),
            pool.submit(kept.is_server_ready, client_timeout=20),
        ]
        while not is_waiting(manager):
            assert not any(each.done() for each in waiting)
        with process(manager, store) as second:
            assert second.port == port
            assert waiting[0].result().get_response().model_version == "3"
            assert waiting[1].result()
            with client(port) as late:
                late.infer("echo", [echo], client_timeout=10)
            for _ in range(3):  # over the relay, on and on
                kept.infer("echo", [echo], client_timeout=10)
    assert manager.stored == ["listener-grpc"]


def is_waiting(manager: ServiceManager) -> bool:
    """Whether a client is in the held listener's backlog, without taking it out."""
    (passed,) = manager.passed()
    with passed.socket:
        passed.socket.settimeout(0)
        info = passed.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    return int.from_bytes(info[24:28], "little") > 0  # tcpi_unacked: of a listener, its backlog


def test_a_second_daemon_cannot_share_the_port(store: FdStore) -> None:
    (listener,) = open_listeners([ADDRESS], [], store)
    second = SharedAddress("grpc", "127.0.0.1", listener.port)
    with pytest.raises(EdgeqError, match="Address already in use"):
        second.bind()
    listener.close()


@pytest.mark.parametrize("fault", ["refused", "ignored"])
def test_a_kernel_that_does_not_lead_connections_away_costs_only_the_waiting(
    manager: ServiceManager,
    store: FdStore,
    echo: triton.InferInput,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lead = held_port._lead

    def faulty(listener: socket.socket, _place: int) -> None:
        if fault == "refused":
            raise OSError("not permitted")
        lead(listener, held_port.HELD)

    monkeypatch.setattr(held_port, "_lead", faulty)
    with caplog.at_level(logging.WARNING), process(manager, store) as alone:
        assert "gRPC clients will be refused during a restart" in caplog.text
        with client(alone.port) as early:
            early.infer("echo", [echo], client_timeout=10)
    assert manager.stored == []


def test_a_relayed_client_that_breaks_off_disturbs_nobody(
    manager: ServiceManager, store: FdStore, echo: triton.InferInput
) -> None:
    with process(manager, store) as first:
        port = first.port
    rude = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
    with process(manager, store), client(port) as polite:
        for each in rude:
            assert each.recv(1)  # the server's SETTINGS
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()  # a reset
            polite.infer("echo", [echo], client_timeout=10)
            with client(port) as newcomer:
                newcomer.infer("echo", [echo], client_timeout=10)


def test_a_client_from_beyond_the_box_is_not_relayed_as_if_it_were_of_the_box(
    manager: ServiceManager, store: FdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_port, "is_loopback_address", lambda _address: False)
    with process(manager, store) as first:
        port = first.port
    stranger = socket.create_connection(("127.0.0.1", port), timeout=10)
    with stranger, process(manager, store):
        assert stranger.recv(1) == b""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])
@pytest.mark.parametrize("has_ipv6", [True, False])
def test_an_address_knows_its_listener(
    host: str, has_ipv6: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_port, "_has_ipv6", lambda: has_ipv6)
    address = SharedAddress("grpc", host, 0)
    with address.bind() as bound:
        assert address.is_of(bound)
        port = bound.getsockname()[1]
        assert SharedAddress("grpc", host, port).is_of(bound)
        assert not SharedAddress("grpc", host, port % 60000 + 1).is_of(bound)
        assert not SharedAddress("grpc", "192.0.2.1", port).is_of(bound)
        assert not SharedAddress("grpc", "no such host", port).is_of(bound)
    with socket.socket(socket.AF_UNIX) as unix:
        assert not address.is_of(unix)


def test_an_address_of_another_box_is_an_error() -> None:
    with pytest.raises(EdgeqError, match=r"cannot listen on 192.0.2.1"):
        SharedAddress("grpc", "192.0.2.1", 9).bind()
