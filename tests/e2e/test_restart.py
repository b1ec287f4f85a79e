"""A daemon restarted by a service manager that holds its sockets, as systemd does."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.e2e.daemon import Daemon
from tests.e2e.load import Load, tcp, unix
from tests.service_manager import ServiceManager

NAME, TENSOR = "digits", "image"


class ManagedDaemon(Daemon):
    """A daemon whose starts are the service manager's."""

    def __init__(self, root: Path, manager: ServiceManager) -> None:
        super().__init__(root, capture_ratio=0.0)
        self.manager = manager
        self.socket_file = root / "state/edgeq.sock"

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return self.manager.start(command, stderr=subprocess.PIPE, env=environment)

    def restart(self) -> float:
        assert self.stop() == 0, "".join(self.log[-20:])
        return self.start()


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[ManagedDaemon]:
    manager = ServiceManager(tmp_path / "notify")
    made = ManagedDaemon(tmp_path, manager)
    yield made
    made.close()
    manager.close()


def serve(daemon: ManagedDaemon, digits: Path) -> None:
    """Start it and have it serve a model."""
    daemon.start()
    daemon.drop(digits / "digits.tflite", NAME)
    daemon.wait_served(NAME)


def test_a_restart_under_load_refuses_no_connection_and_loses_no_request(
    managed: ManagedDaemon, digits: Path, images: np.ndarray
) -> None:
    serve(managed, digits)
    port, path = managed.http_port, managed.socket_file
    load = Load(
        NAME,
        TENSOR,
        images[:1],
        keep_alive=[tcp(port)] * 3 + [unix(path)] * 2,
        new=[tcp(port), unix(path)],
    )
    load.wait_for(200)
    for _ in range(2):
        managed.restart()
        assert managed.http_port == port
        load.wait_for(200)
    load.stop()
    assert load.failures == []
    assert [name for name in managed.manager.stored if "connection" in name] == []


def test_connections_between_two_requests_outlive_the_process(managed: ManagedDaemon) -> None:
    managed.start()
    kept = [tcp(managed.http_port)(), unix(managed.socket_file)()]
    ends = []
    for connection in kept:
        connection.request("GET", "/v2/health/ready")
        assert connection.getresponse().read() == b'{"ready":true}'
        ends.append(connection.sock)
    managed.stop()
    assert sorted(managed.manager.stored) == [
        "connection-http",
        "connection-unix",
        "listener-grpc",
        "listener-http",
        "listener-metrics",
        "listener-unix",
    ]
    for connection in kept:
        connection.request("GET", "/v2/health/ready")
    managed.start()
    for connection, end in zip(kept, ends, strict=True):
        assert connection.getresponse().read() == b'{"ready":true}'
        assert connection.sock is end
        connection.close()


def test_a_grpc_call_made_between_two_processes_is_answered_by_the_next(
    managed: ManagedDaemon, digits: Path, images: np.ndarray
) -> None:
    serve(managed, digits)
    port = managed.grpc_port
    given = triton.InferInput(TENSOR, list(images[:1].shape), "FP32")
    given.set_data_from_numpy(images[:1])
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client, ThreadPoolExecutor(1) as pool:
        client.infer(NAME, [given], client_timeout=30)
        managed.stop()
        waiting = pool.submit(client.infer, NAME, [given], client_timeout=30)
        managed.start()
        assert managed.grpc_port == port
        assert waiting.result().as_numpy("scores") is not None


def test_a_crash_refuses_nobody_either(managed: ManagedDaemon) -> None:
    managed.start()
    managed.stop(signal.SIGKILL)
    waiting = [tcp(managed.http_port)(), unix(managed.socket_file)()]
    for connection in waiting:
        connection.request("GET", "/v2/health/ready")
    managed.start()
    for connection in waiting:
        assert connection.getresponse().status == 200
        connection.close()


def test_a_stop_for_good_closes_everything(managed: ManagedDaemon) -> None:
    managed.start()
    idle = socket.create_connection(("127.0.0.1", managed.http_port), timeout=10)
    managed.stop()
    managed.manager.clear()
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", managed.http_port), timeout=10)
    assert managed.start() > 0  # what is left of the socket file is in nobody's way
