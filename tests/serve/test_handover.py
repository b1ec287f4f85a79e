"""Connections left with a service manager by one process and gone on with by the next."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.serve.handover import RESERVED, adopt, park
from edgeq.serve.listening import Listener, TcpAddress, UnixAddress, open_listeners
from edgeq.systemd import FdStore, Notifier, PassedSocket
from tests.service_manager import ServiceManager


@pytest.fixture
def listeners(store: FdStore, tmp_path: Path) -> Iterator[list[Listener]]:
    addresses = [TcpAddress("http", "127.0.0.1", 0), UnixAddress("unix", tmp_path / "edgeq.sock")]
    opened = open_listeners(addresses, [], store)
    yield opened
    for listener in opened:
        listener.close()


def connections(manager: ServiceManager) -> list[PassedSocket]:
    """What the next process finds beside the listeners, which this one still has."""
    passed = manager.passed()
    for each in passed:
        if each.name.startswith("listener-"):
            each.socket.close()
    return [each for each in passed if each.name.startswith("connection-")]


def connected(listener: Listener) -> tuple[socket.socket, socket.socket]:
    """A client, and the server's end of its connection."""
    client = socket.socket(listener.socket.family)
    client.settimeout(5)
    client.connect(listener.socket.getsockname())
    return client, listener.socket.accept()[0]


def test_a_request_sent_between_two_processes_is_read_by_the_next(
    manager: ServiceManager, store: FdStore, listeners: list[Listener]
) -> None:
    pairs = [connected(listener) for listener in listeners]
    assert park([end for _, end in pairs], listeners, store) == 2
    for client, end in pairs:
        assert end.fileno() == -1
        client.sendall(b"meanwhile")
    adopted = adopt(connections(manager), listeners, store)
    assert [end.recv(99) for end in adopted] == [b"meanwhile"] * 2
    for (client, _), end in zip(pairs, adopted, strict=True):
        assert not end.getblocking()
        end.close()
        assert client.recv(1) == b""  # the manager does not hold it open any more
        client.close()
    assert manager.stored == ["listener-http", "listener-unix"]


def test_a_store_that_is_full_ends_the_rest_and_keeps_room_for_listeners(
    manager: ServiceManager, listeners: list[Listener]
) -> None:
    small = FdStore(Notifier(manager.address), maximum=RESERVED + 2)
    pairs = [connected(listeners[0]) for _ in range(4)]
    pairs.append(connected(listeners[1]))
    assert park([end for _, end in pairs], listeners, small) == 2
    assert manager.stored[2:] == ["connection-http"] * 2
    for client, _ in pairs[2:]:
        assert client.recv(1) == b""
    for client, _ in pairs:
        client.close()
    assert FdStore(Notifier(None), maximum=1).maximum < RESERVED
    assert park([], listeners, FdStore(Notifier(None), maximum=1)) == 0


def test_connections_of_a_listener_that_nobody_holds_are_ended(tmp_path: Path) -> None:
    store = FdStore(Notifier(None))
    (listener,) = open_listeners([TcpAddress("http", "127.0.0.1", 0)], [], store)
    client, end = connected(listener)
    assert park([end], [listener], store) == 0
    assert client.recv(1) == b""
    client.close()
    listener.close()


def test_connections_of_an_address_that_changed_are_ended(
    manager: ServiceManager, store: FdStore, listeners: list[Listener]
) -> None:
    http, unix = (connected(listener) for listener in listeners)
    park([http[1], unix[1]], listeners, store)
    (only_unix,) = adopt(connections(manager), listeners[1:], store)
    assert only_unix.family == socket.AF_UNIX
    assert http[0].recv(1) == b""
    only_unix.close()
    for client, _ in (http, unix):
        client.close()


def test_a_client_that_left_meanwhile_is_not_gone_on_with(
    manager: ServiceManager, store: FdStore, listeners: list[Listener]
) -> None:
    client, end = connected(listeners[1])
    park([end], listeners, store)
    client.close()
    assert "connection-unix" not in manager.stored
    client, end = connected(listeners[0])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()  # a reset: the kernel has no peer of it any more
    assert not listeners[0].has_accepted(end)
    end.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_listener_on_every_address_knows_its_connections(host: str, store: FdStore) -> None:
    (listener,) = open_listeners([TcpAddress("any", host, 0)], [], store)
    client = socket.create_connection(("127.0.0.1", listener.port), timeout=5)
    end = listener.socket.accept()[0]
    assert listener.has_accepted(end)
    assert not listener.has_accepted(client)
    for each in (client, end, listener):
        each.close()
