from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq import files
from edgeq.daemon.spare_socket import SpareUnixAddress, link_spare, remove_spare
from edgeq.errors import EdgeqError
from edgeq.serve.listening import Listener, UnixAddress


@pytest.fixture
def spare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sockets go that the state folder refuses; a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="edgeq-spare-") as folder:
        monkeypatch.setattr(files, "spare_folders", lambda: iter([folder]))
        yield Path(folder)


@pytest.fixture
def address(tmp_path: Path) -> SpareUnixAddress:
    (tmp_path / "state").mkdir()
    return SpareUnixAddress("unix", tmp_path / "state/edgeq.sock")


@pytest.fixture
def listener(
    address: SpareUnixAddress, spare: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    """One that the disk of its own place refused."""
    bind = UnixAddress.bind

    def refuse(wanted: UnixAddress) -> socket.socket:
        if wanted.path == address.path:
            cause = OSError(errno.EROFS, os.strerror(errno.EROFS))
            raise EdgeqError("cannot listen") from cause
        return bind(wanted)

    monkeypatch.setattr(UnixAddress, "bind", refuse)
    made = Listener(address, address.bind(), is_inherited=False, is_held=False)
    yield made
    remove_spare(made)
    made.close()


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def test_a_socket_goes_where_it_is_asked_for_while_the_disk_takes_it(address, spare):
    made = Listener(address, address.bind(), is_inherited=False, is_held=False)
    link_spare(made)
    assert connects(address.path)
    assert not address.path.is_symlink()
    remove_spare(made)
    made.close()
    assert not address.path.exists()
    assert list(spare.iterdir()) == []


def test_clients_find_the_spare_one_as_soon_as_the_disk_takes_a_link(address, listener):
    assert not connects(address.path)
    link_spare(listener)
    assert connects(address.path)
    link_spare(listener)  # every second
    assert connects(address.path)


def test_what_a_dead_daemon_left_in_its_place_is_replaced(address, listener):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(address.path))
    link_spare(listener)
    assert connects(address.path)


def test_another_daemon_s_socket_is_left_alone(address, listener):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(address.path))
        other.listen()
        link_spare(listener)
        assert not address.path.is_symlink()


def test_nothing_is_left_of_it(address, listener, spare):
    link_spare(listener)
    remove_spare(listener)
    assert not address.path.is_symlink()
    assert list(spare.iterdir()) == []


def test_what_is_not_the_disk_s_refusal_is_raised(spare, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EdgeqError):
        SpareUnixAddress("unix", tmp_path / "file/edgeq.sock").bind()


def test_without_another_place_the_refusal_is_raised(listener, address, monkeypatch):
    monkeypatch.setattr(files, "spare_folders", lambda: iter([]))
    with pytest.raises(EdgeqError, match="cannot listen"):
        address.bind()
