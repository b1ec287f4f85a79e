"""The gRPC port while no process serves it -> clients that wait, and then reach the server.

gRPC takes no listening socket from outside, so its own cannot outlive a process. Beside it listens
a second one, which the service manager holds (SO_REUSEPORT). A program of one instruction says
which of the two gets new connections: the server's while it serves, the held one while it does
not. The bytes of who came to the held one are relayed to the server once it is there again.
(Asking them to connect again, by a GOAWAY that took no call, was tried: some versions of grpcio
ask the same connection for ever.)
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
from dataclasses import dataclass

from edgeq.errors import EdgeqError
from edgeq.serve.listening import BACKLOG, LISTENER_PREFIX, Listener, TcpAddress
from edgeq.serve.loopback import is_loopback_address
from edgeq.systemd import FdStore

logger = logging.getLogger(__name__)

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
BPF_RETURN_CONSTANT = 0x06  # BPF_RET | BPF_K of linux/bpf_common.h
HELD, SERVER = 0, 1  # in the order in which they came to listen

CHUNK_BYTES = 64 << 10
LAST_BYTES_S = 1.0  # for clients that take their time
SWITCH_S = 0.02  # for gRPC to accept who had already come to it


@dataclass(frozen=True)
class SharedAddress:
    """A TCP port as gRPC binds it, which may be bound once more."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def is_of(self, listener: socket.socket) -> bool:
        """Whether a listener listens here."""
        try:
            family, host = self._resolve()
        except (OSError, UnicodeError):
            return False
        if listener.family != family:
            return False
        bound = listener.getsockname()
        return bound[0] == host and self.port in (0, bound[1])

    def bind(self) -> socket.socket:
        """Listen here.

        Raises:
            EdgeqError: the port is in use or not allowed, or the host is no address of this box.
        """
        TcpAddress(self.name, self.host, self.port).bind().close()  # shared with nobody else
        family, host = self._resolve()
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, self.port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise EdgeqError(
                f"cannot listen on {self}: {error.strerror}",
                hint="Set server.grpc_port to another port, or to null for no gRPC.",
            ) from error
        return listener

    def _resolve(self) -> tuple[int, str]:
        """As gRPC does: with IPv6 on the box, IPv4 is a part of it."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        host = str(socket.getaddrinfo(self.host, None, family, socket.SOCK_STREAM)[0][4][0])
        if not _has_ipv6():
            return family, host
        if host in ("0.0.0.0", "::"):
            return socket.AF_INET6, "::"
        return socket.AF_INET6, host if ":" in host else f"::ffff:{host}"


class HeldPort:
    """The held listener of one `SharedAddress`; used on the server's event loop.

    Args:
        listener: what `open_listeners` made of the address.
        store: where the service manager holds it.
    """

    def __init__(self, listener: Listener, store: FdStore) -> None:
        self._listener = listener
        self._store = store
        self._relays: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._listener.port

    def open(self) -> None:
        """Lead new connections to the server, which listens by now, and relay who has waited."""
        self._listener.socket.setblocking(False)
        try:
            _lead(self._listener.socket, SERVER)
            self._take()
            reason = "" if self._is_led_away() else "the kernel does not lead them to the server"
        except OSError as error:
            reason = str(error)
        if reason:
            logger.warning(f"gRPC clients will be refused during a restart: {reason}")
            self._store.drop(LISTENER_PREFIX + self._listener.name)
            self._listener.close()
            self._store.settle()  # until the manager has closed it, too, it takes connections
        else:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._listener.socket.fileno(), self._take)

    async def close(self) -> None:
        """Have new connections wait for the next process."""
        if self._listener.socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener.socket.fileno())
            _lead(self._listener.socket, HELD)
            await asyncio.sleep(SWITCH_S)

    async def end(self) -> None:
        """End what is still relayed, after the server: its last answers have to get through."""
        if self._relays:
            await asyncio.wait(self._relays, timeout=LAST_BYTES_S)
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def _take(self) -> list[object]:
        """Accept those who wait; return where they come from."""
        peers: list[object] = []
        with contextlib.suppress(OSError):  # nobody else, or out of descriptors
            while True:
                client, peer = self._listener.socket.accept()
                peers.append(peer)
                if is_loopback_address(peer[0]):
                    task = asyncio.get_running_loop().create_task(self._relay(client))
                    self._relays.add(task)
                    task.add_done_callback(self._relays.discard)
                else:
                    client.close()  # relayed, it would seem to come from this box, and be trusted
        return peers

    async def _relay(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with client, socket.socket(self._listener.socket.family) as server:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):  # one of them has gone
                await loop.sock_connect(server, self._listener.socket.getsockname())
                await _exchange(client, server)

    def _is_led_away(self) -> bool:
        with socket.socket(self._listener.socket.family) as probe:
            probe.settimeout(1)
            probe.connect(self._listener.socket.getsockname())
            return probe.getsockname() not in self._take()


async def _exchange(client: socket.socket, server: socket.socket) -> None:
    pumps = [
        asyncio.ensure_future(_pump(client, server)),
        asyncio.ensure_future(_pump(server, client)),
    ]
    try:
        await pumps[1]  # until the server has hung up and all that it said is through
    finally:
        # Before the sockets are closed: the event loop must not go on waiting for their numbers.
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while chunk := await loop.sock_recv(source, CHUNK_BYTES):
            await loop.sock_sendall(sink, chunk)
    finally:
        with contextlib.suppress(OSError):  # it has gone, too
            sink.shutdown(socket.SHUT_WR)


def _lead(listener: socket.socket, place: int) -> None:
    """Have all of a port's new connections go to its listener at that place.

    Where there is none, the kernel chooses among those that there are.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN_CONSTANT, 0, 0, place))
    described = struct.pack("HP", 1, ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, described)


def _has_ipv6() -> bool:
    if not socket.has_dualstack_ipv6():
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False
