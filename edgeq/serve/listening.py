"""Addresses and what the service manager passed -> listening sockets that outlive a restart.

A listener that the manager holds, too, goes on listening while no process serves: clients wait in
its backlog instead of being refused. It comes from edgeq.socket (then the unit holds it), or was
bound here and left in the manager's store. See also handover.py, for connections.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeq.errors import ConfigError, EdgeqError
from edgeq.systemd import FdStore, PassedSocket

logger = logging.getLogger(__name__)

BACKLOG = 2048
SOCKET_MODE = 0o660
WILDCARDS = ("0.0.0.0", "::")
LISTENER_PREFIX = "listener-"  # of the names in the manager's store
CONNECTION_PREFIX = "connection-"


@dataclass(frozen=True)
class TcpAddress:
    """An address or a name of this box and a port; port 0 takes any free one."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def family(self) -> int:
        """IPv4, unless an IPv6 address is written out."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def is_of(self, listener: socket.socket) -> bool:
        """Whether a listener listens here."""
        if listener.family != self.family:
            return False
        host, port = listener.getsockname()[:2]
        try:
            found = socket.getaddrinfo(self.host, port, self.family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # binding it will say so
            return False
        return self.port in (0, port) and host in {address[4][0] for address in found}

    def bind(self) -> socket.socket:
        """Listen here.

        Raises:
            EdgeqError: the port is in use or not allowed, or the host is no address of this box.
        """
        try:
            return self._listen()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            reason = reason.partition(" (while attempting")[0]  # that much the message says
            raise EdgeqError(f"cannot listen on {self}: {reason}", hint=_tcp_hint(error)) from error

    def _listen(self) -> socket.socket:
        both = self.host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            (self.host, self.port), family=self.family, backlog=BACKLOG, dualstack_ipv6=both
        )


@dataclass(frozen=True)
class UnixAddress:
    """Where a socket file goes."""

    name: str
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def is_of(self, listener: socket.socket) -> bool:
        """Whether a listener listens here, and its file is still there for clients to find."""
        is_bound_here = listener.family == socket.AF_UNIX and listener.getsockname() == str(self)
        return is_bound_here and self.path.is_socket()

    def bind(self) -> socket.socket:
        """Listen here; what a dead process left in the place is replaced.

        Raises:
            EdgeqError: something else is there, or another process answers there.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(self.path)
            # Before the bind: Linux makes the file with the descriptor's mode, so that nobody else
            # can connect in between.
            os.fchmod(listener.fileno(), SOCKET_MODE)
            listener.bind(str(self.path))
            self.path.chmod(SOCKET_MODE)  # what the umask took away
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise EdgeqError(
                f"cannot listen on {self}: {error.strerror or error}",
                hint="Set server.unix_socket to a path of under 100 bytes that edgeq may write to.",
            ) from error
        except BaseException:
            listener.close()
            raise
        return listener


class Address(Protocol):
    """Where to listen; hashable."""

    @property
    def name(self) -> str:
        """What listens there, e.g. "http"; part of its name in the manager's store."""

    def is_of(self, listener: socket.socket) -> bool:
        """Whether a listener listens here."""

    def bind(self) -> socket.socket:
        """Listen here; EdgeqError where that cannot be."""


class Listener:
    """One listening socket.

    Args:
        address: what the configuration asks for.
        sock: what listens there.
        is_inherited: the service manager passed it.
        is_held: the manager holds it, too: it goes on listening after this process.
    """

    backlog = BACKLOG

    def __init__(
        self, address: Address, sock: socket.socket, *, is_inherited: bool, is_held: bool
    ) -> None:
        self.address = address
        self.socket = sock
        sock.setblocking(False)  # else a dup() would have the event loop's duplicate block, too
        self.is_inherited = is_inherited
        self.is_held = is_held
        self._file = _identity(address.path) if isinstance(address, UnixAddress) else ()

    @property
    def name(self) -> str:
        """The address's name."""
        return self.address.name

    @property
    def port(self) -> int:
        """The TCP port; 0 for a Unix socket."""
        return 0 if self.socket.family == socket.AF_UNIX else int(self.socket.getsockname()[1])

    def has_accepted(self, connection: socket.socket) -> bool:
        """Whether this is one of its connections, and still connected."""
        try:
            connection.getpeername()
            own, bound = connection.getsockname(), self.socket.getsockname()
        except OSError:
            return False
        if connection.family != self.socket.family or isinstance(bound, str):
            return bool(own == bound)
        return own[1] == bound[1] and bound[0] in (own[0], *WILDCARDS)

    def close(self) -> None:
        """Close this process's descriptor, and remove the socket file unless it is still in use.

        The file stays where the manager goes on listening, and where the next daemon has put its
        own while this one let its requests finish.
        """
        self.socket.close()
        if isinstance(self.address, UnixAddress) and not self.is_held:
            path = self.address.path
            if _identity(path) == self._file:
                path.unlink(missing_ok=True)


def open_listeners(
    addresses: Sequence[Address], passed: Sequence[PassedSocket], store: FdStore
) -> list[Listener]:
    """Return a listener for each address, in order; clients may connect from now on.

    What the manager passed is taken where it is of an address; else an address is bound, and the
    socket left in the store. Kept listeners that no address asks for any more are closed.

    Raises:
        EdgeqError: an address is in use or not allowed.
        ConfigError: edgeq.socket listens where the configuration does not.
    """
    offered = [each for each in passed if not each.name.startswith(CONNECTION_PREFIX)]
    taken: dict[Address, Listener] = {}
    try:
        _inherit(offered, addresses, taken, store)
        for address in addresses:
            if address not in taken:
                taken[address] = _bind(address, store)
    except BaseException:
        for listener in taken.values():
            listener.close()
        for each in offered:
            each.socket.close()
        raise
    return [taken[address] for address in addresses]


def _inherit(
    offered: Sequence[PassedSocket],
    addresses: Sequence[Address],
    taken: dict[Address, Listener],
    store: FdStore,
) -> None:
    for each in offered:
        address = _address_of(each.socket, [a for a in addresses if a not in taken])
        if address is None:
            _turn_away(each, store)
        else:
            each.socket.listen(BACKLOG)  # a .socket unit may have asked for less
            taken[address] = Listener(address, each.socket, is_inherited=True, is_held=True)


def _address_of(passed: socket.socket, addresses: Sequence[Address]) -> Address | None:
    if not _is_listening(passed):
        return None
    return next((address for address in addresses if address.is_of(passed)), None)


def _is_listening(passed: socket.socket) -> bool:
    is_stream = passed.type == socket.SOCK_STREAM
    return is_stream and bool(passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _turn_away(passed: PassedSocket, store: FdStore) -> None:
    where = _describe(passed.socket)
    passed.socket.close()
    if not passed.name.startswith(LISTENER_PREFIX):
        raise ConfigError(
            f"the service manager passed '{passed.name}', {where}; no server.* key asks for that",
            hint="Make each ListenStream= of edgeq.socket an address of HTTP, /metrics or the Unix "
            "socket, as the configuration has them.",
        )
    logger.info(f"no longer on {where}: the configuration changed")
    store.drop(passed.name)
    store.settle()  # it takes up its address until the manager has closed it, too


def _describe(passed: socket.socket) -> str:
    if not _is_listening(passed):
        return "a socket that does not listen"
    bound = passed.getsockname()
    return bound if isinstance(bound, str) else f"{bound[0]}:{bound[1]}"


def _bind(address: Address, store: FdStore) -> Listener:
    sock = address.bind()
    is_held = store.keep(LISTENER_PREFIX + address.name, [sock], polled=False)
    return Listener(address, sock, is_inherited=False, is_held=is_held)


def _tcp_hint(error: Exception) -> str:
    hints = {
        errno.EADDRINUSE: "Stop the other server (`ss -ltnp` names it), or set another port.",
        errno.EACCES: "Set a port of 1024 or more.",
        errno.EADDRNOTAVAIL: "Set server.host to an address of this box.",
    }
    default = "Set server.host to an address or name of this box."
    return hints.get(getattr(error, "errno", None) or 0, default)


def _identity(path: Path) -> tuple[int, ...]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return ()
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EdgeqError(
            f"{path} is not a socket; edgeq would have to replace it",
            hint="Move the file away, or set another server.unix_socket.",
        )
    if _answers(path):
        raise EdgeqError(
            f"{path} is in use: another edgeq answers there",
            hint="Stop the other daemon, or set another server.unix_socket.",
        )
    path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
    return True
