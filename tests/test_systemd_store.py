"""The descriptor store of sd_notify(3) and what sd_listen_fds(3) passes, over real sockets."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from pathlib import Path

import pytest

from edgeq import systemd
from edgeq.errors import EdgeqError
from edgeq.systemd import FdStore, Notifier, PassedSocket, take_passed_sockets
from tests.service_manager import ServiceManager

# -- the store --------------------------------------------------------------------------------


def test_a_kept_socket_listens_on_after_the_process_has_closed_it(
    manager: ServiceManager, store: FdStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        assert store.keep("listener-http", [listener], polled=False)
        assert store.settle()
    assert manager.stored == ["listener-http"]
    socket.create_connection(address, timeout=5).close()
    assert manager.states[0] == {"FDSTORE": "1", "FDNAME": "listener-http", "FDPOLL": "0"}


def test_what_is_dropped_by_name_is_closed(manager: ServiceManager, store: FdStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        store.keep("old", [listener])
        store.keep("other", [listener])
    store.drop("other")
    store.drop("old")
    assert store.settle()
    assert manager.stored == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_more_descriptors_than_one_message_holds_are_all_kept(
    manager: ServiceManager, store: FdStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert store.keep("many", [one] * 150)
    assert store.settle()
    assert manager.stored == ["many"] * 150


def test_a_polled_connection_whose_client_leaves_is_dropped(
    manager: ServiceManager, store: FdStore
) -> None:
    ours, peer = socket.socketpair()
    with ours:
        store.keep("connection-unix", [ours])
    assert store.settle()
    assert manager.stored == ["connection-unix"]
    peer.close()
    assert manager.stored == []


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify"])
def test_without_a_manager_nothing_is_kept(address: str | None) -> None:
    store = FdStore(Notifier(address))
    with socket.socket() as one:
        assert not store.keep("one", [one])
    store.drop("one")
    assert not store.settle()


def test_a_manager_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "SEND_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        store = FdStore(Notifier(str(tmp_path / "notify")))
        assert not store.settle(timeout_s=0.05)
        with socket.socket() as one:
            assert not all(store.keep("one", [one]) for _ in range(2000))


@pytest.mark.parametrize(("limit", "expected"), [("", 512), ("40", 40), ("many", 512)])
def test_the_limit_is_what_the_manager_says(
    monkeypatch: pytest.MonkeyPatch, limit: str, expected: int
) -> None:
    monkeypatch.setenv("FDSTORE", limit)
    assert FdStore.from_environment(Notifier(None)).maximum == expected
    assert "FDSTORE" not in os.environ


# -- passed sockets ---------------------------------------------------------------------------


def passed_here(
    monkeypatch: pytest.MonkeyPatch, descriptors: list[int], **environ: str
) -> list[PassedSocket]:
    """What this very process takes: `descriptors`, as if they were 3, 4, 5."""
    first = fcntl.fcntl(0, fcntl.F_DUPFD, 400)
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", first)
    os.close(first)
    for number, descriptor in enumerate(descriptors, first):
        os.dup2(descriptor, number)
    pid = str(os.getpid())
    given = {"LISTEN_FDS": str(len(descriptors)), "LISTEN_PID": pid, "LISTEN_PIDFDID": "7"}
    for name, value in {**given, **environ}.items():
        monkeypatch.setenv(name, value)
    try:
        return take_passed_sockets()
    finally:
        assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_sockets_come_with_their_names_and_children_do_not_get_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        taken = passed_here(monkeypatch, [tcp.fileno(), unix.fileno()], LISTEN_FDNAMES="http:unix")
        assert [each.name for each in taken] == ["http", "unix"]
        assert taken[0].socket.getsockname() == tcp.getsockname()
        assert [each.socket.family for each in taken] == [socket.AF_INET, socket.AF_UNIX]
    for each in taken:
        assert not each.socket.get_inheritable()
        each.socket.close()


def test_sockets_without_names_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as one:
        taken = passed_here(monkeypatch, [one.fileno()] * 2, LISTEN_FDNAMES="http")
    assert [each.name for each in taken] == ["http", "unknown"]
    for each in taken:
        each.socket.close()


@pytest.mark.parametrize("environ", [{"LISTEN_PID": "1"}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "-2"}])
def test_sockets_of_another_process_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    assert passed_here(monkeypatch, [], **environ) == []


def test_a_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(EdgeqError) as caught:
        passed_here(monkeypatch, [file.fileno()], LISTEN_FDNAMES="conf")
    assert "(conf) from the service manager is no socket" in caught.value.message
    os.close(systemd.FIRST_DESCRIPTOR)


def test_a_descriptor_that_is_not_open_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EdgeqError, match="Bad file descriptor"):
        passed_here(monkeypatch, [], LISTEN_FDS="1")


TAKER = """
from edgeq.systemd import take_passed_sockets
for each in take_passed_sockets():
    print(each.name, each.socket.fileno(), each.socket.getsockname()[1])
"""


def test_the_next_process_gets_what_the_last_one_kept(
    manager: ServiceManager, store: FdStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        store.keep("listener-http", [listener])
    assert store.settle()
    process = manager.start([sys.executable, "-c", TAKER], stdout=-1)
    assert process.communicate(timeout=30)[0] == f"listener-http 3 {port}\n"
    assert process.returncode == 0
