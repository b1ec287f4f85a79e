"""Listeners that are bound, inherited, kept over a restart, and refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from edgeq.errors import ConfigError, EdgeqError
from edgeq.serve.listening import Address, Listener, TcpAddress, UnixAddress, open_listeners
from edgeq.systemd import FdStore, Notifier, PassedSocket
from tests.service_manager import ServiceManager

NO_STORE = FdStore(Notifier(None))


def bound(address: Address) -> Listener:
    """Listen without a service manager."""
    (listener,) = open_listeners([address], [], NO_STORE)
    return listener


def tcp(port: int = 0, host: str = "127.0.0.1") -> TcpAddress:
    return TcpAddress("http", host, port)


def next_process(manager: ServiceManager, store: FdStore) -> list[PassedSocket]:
    """What it finds, once the manager has read all of this one's messages."""
    assert store.settle()
    return manager.passed()


def connect(where: int | Path) -> socket.socket:
    is_path = isinstance(where, Path)
    client = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
    client.settimeout(5)
    try:
        client.connect(str(where) if is_path else ("127.0.0.1", where))
    except OSError:
        client.close()
        raise
    return client


# -- bound ------------------------------------------------------------------------------------


def test_a_taken_port_is_an_error_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EdgeqError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            bound(tcp(port))
        assert "set another port" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "hint"),
    [("192.0.2.1", "address of this box"), ("::g", "name"), ("a" * 64 + ".example", "name")],
)
def test_an_address_of_another_box_is_an_error(host: str, hint: str) -> None:
    with pytest.raises(EdgeqError, match="cannot listen on") as caught:
        bound(tcp(host=host))
    assert hint in caught.value.hint


def test_a_unix_socket_that_cannot_be_made_frees_the_port(tmp_path: Path) -> None:
    first = bound(tcp())
    port = first.port
    first.close()
    with pytest.raises(EdgeqError, match=r"cannot listen on .*x"):
        open_listeners([tcp(port), UnixAddress("unix", tmp_path / ("x" * 120))], [], NO_STORE)
    bound(tcp(port)).close()


def test_the_unix_socket_is_for_owner_and_group_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "made" / "edgeq.sock"
    before = os.umask(0o077)
    try:
        listener = bound(UnixAddress("unix", path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert (listener.is_inherited, listener.is_held, listener.port) == (False, False, 0)
    listener.close()
    assert not path.exists()


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "edgeq.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    bound(UnixAddress("unix", path)).close()


def test_the_socket_of_the_next_daemon_outlives_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "edgeq.sock"
    old = bound(UnixAddress("unix", path))
    path.unlink()
    new = bound(UnixAddress("unix", path))
    old.close()
    assert path.is_socket()
    path.unlink()  # by hand: nothing to remove is no error either
    new.close()


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edgeq.sock"
    first = bound(UnixAddress("unix", path))
    with pytest.raises(EdgeqError, match="another edgeq answers there"):
        bound(UnixAddress("unix", path))
    assert path.is_socket()
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edgeq.sock"
    path.write_text("mine")
    with pytest.raises(EdgeqError, match="is not a socket"):
        bound(UnixAddress("unix", path))
    assert path.read_text() == "mine"


# -- kept over a restart ----------------------------------------------------------------------


def test_listeners_come_back_from_the_store_and_clients_wait_meanwhile(
    manager: ServiceManager, store: FdStore, tmp_path: Path
) -> None:
    addresses = [tcp(), UnixAddress("unix", tmp_path / "edgeq.sock")]
    first = open_listeners(addresses, [], store)
    port = first[0].port
    for listener in first:
        assert (listener.is_inherited, listener.is_held) == (False, True)
        listener.close()
    clients = [connect(port), connect(tmp_path / "edgeq.sock")]
    second = open_listeners(addresses, next_process(manager, store), store)
    assert [each.name for each in second] == ["http", "unix"]
    assert second[0].port == port
    for listener, client in zip(second, clients, strict=True):
        assert (listener.is_inherited, listener.is_held) == (True, True)
        connection, _ = listener.socket.accept()
        assert listener.has_accepted(connection)
        connection.close()
        client.close()
        listener.close()
    assert store.settle()
    assert manager.stored == ["listener-http", "listener-unix"]  # not once more


def test_a_changed_port_is_bound_anew_and_the_old_one_closed(
    manager: ServiceManager, store: FdStore
) -> None:
    (old,) = open_listeners([tcp()], [], store)
    port = old.port
    old.close()
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]
    (new,) = open_listeners([tcp(other)], next_process(manager, store), store)
    assert (new.port, new.is_inherited, new.is_held) == (other, False, True)
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    new.close()
    assert store.settle()
    assert manager.stored == ["listener-http"]


def test_a_changed_host_may_take_the_same_port(manager: ServiceManager, store: FdStore) -> None:
    (old,) = open_listeners([tcp()], [], store)
    port = old.port
    old.close()
    (new,) = open_listeners([tcp(port, "0.0.0.0")], next_process(manager, store), store)
    assert new.socket.getsockname() == ("0.0.0.0", port)
    connect(port).close()
    new.close()


def test_a_name_of_the_same_address_keeps_the_listener(
    manager: ServiceManager, store: FdStore
) -> None:
    (old,) = open_listeners([tcp()], [], store)
    (new,) = open_listeners([tcp(old.port, "localhost")], next_process(manager, store), store)
    assert new.is_inherited
    for listener in (old, new):
        listener.close()


def test_a_unix_socket_whose_file_was_removed_is_bound_anew(
    manager: ServiceManager, store: FdStore, tmp_path: Path
) -> None:
    address = UnixAddress("unix", tmp_path / "edgeq.sock")
    (old,) = open_listeners([address], [], store)
    old.close()
    address.path.unlink()
    (new,) = open_listeners([address], next_process(manager, store), store)
    assert not new.is_inherited
    connect(address.path).close()
    new.close()


def test_a_listener_nobody_asks_for_any_more_is_closed(
    manager: ServiceManager, store: FdStore, tmp_path: Path
) -> None:
    both = [tcp(), UnixAddress("unix", tmp_path / "edgeq.sock")]
    for listener in open_listeners(both, [], store):
        listener.close()
    (left,) = open_listeners(both[:1], next_process(manager, store), store)
    left.close()
    assert store.settle()
    assert manager.stored == ["listener-http"]


# -- a .socket unit ---------------------------------------------------------------------------


def test_sockets_of_a_unit_are_taken_by_their_addresses_whatever_their_names(
    manager: ServiceManager, store: FdStore, tmp_path: Path
) -> None:
    path = tmp_path / "edgeq.sock"
    manager.units = [
        ("edgeq.socket", bound(UnixAddress("", path)).socket),
        ("edgeq.socket", bound(tcp()).socket),
    ]
    port = manager.units[1][1].getsockname()[1]
    http, unix = open_listeners(
        [tcp(port), UnixAddress("unix", path)], next_process(manager, store), store
    )
    assert (http.port, http.is_held, unix.is_held) == (port, True, True)
    for listener in (http, unix):
        listener.close()
    assert store.settle()
    assert manager.stored == []  # the unit holds them already
    assert path.is_socket()
    for _, sock in manager.units:
        sock.close()


def test_a_unit_that_listens_where_the_configuration_does_not_is_a_configuration_error() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with pytest.raises(ConfigError, match=f"'http', 127.0.0.1:{port}; no server.* key") as caught:
        open_listeners([tcp(1)], [PassedSocket("http", sock)], NO_STORE)
    assert "ListenStream=" in caught.value.hint


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_does_not_listen_is_a_configuration_error(kind: int) -> None:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind(("127.0.0.1", 0))
    address = tcp(sock.getsockname()[1])
    with pytest.raises(ConfigError, match="'http', a socket that does not listen"):
        open_listeners([address], [PassedSocket("http", sock)], NO_STORE)
