"""Listeners and an app -> the HTTP side of the server: connections, their bounds, their end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

from edgeq.errors import EdgeqError, UnavailableError
from edgeq.serve.http.connection import Connection
from edgeq.serve.http.handshake import Handshake
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.limits import Limits
from edgeq.serve.listening import Listener

TURNS = 4  # of the loop, within which asyncio makes a connection of what it has accepted
SWEEP_S = 0.5  # how much later than its deadline a connection may end


@dataclass(frozen=True)
class HttpOptions:
    """Bounds of the wire; `tls` is for TCP only, a Unix socket needs none."""

    limits: Limits = field(default_factory=Limits)
    tls: ssl.SSLContext | None = None


class HttpFrontend:
    """A part of the `Server`; all but the constructor is called on its event loop.

    Args:
        handle: answers a request, at once or later; never raises.
        listeners: bound sockets, of which copies are closed at the end, not they themselves.
        connections: what another process parked, to be gone on with.
    """

    def __init__(
        self,
        handle: Callable[[Request], Answer | Awaitable[Answer]],
        options: HttpOptions,
        listeners: Sequence[Listener],
        connections: Sequence[socket.socket] = (),
    ) -> None:
        self.handle = handle
        self.limits = options.limits
        self._tls = options.tls
        self.date = b""
        self.parked: list[socket.socket] = []  # after `stop(park=True)`
        self._listeners = listeners
        self._adopted = list(connections)
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._handshakes: set[Handshake] = set()
        self._body_bytes = 0
        self._is_stopping = False
        self._is_parking = False

    # ---- start and stop

    async def start(self) -> None:
        """Accept connections from now on."""
        self.loop = asyncio.get_running_loop()
        self._sweep()
        for kept in self._adopted:
            with contextlib.suppress(OSError):  # its client has gone meanwhile
                await self.loop.connect_accepted_socket(self._go_on, kept)
        for listener in self._listeners:
            is_tcp = listener.socket.family != socket.AF_UNIX
            server = await self.loop.create_server(
                self._new_tcp if is_tcp else lambda: Connection(self),
                sock=listener.socket.dup(),
                backlog=listener.backlog,
            )
            self._servers.append(server)

    def _new_tcp(self) -> asyncio.Protocol:
        return Connection(self) if self._tls is None else Handshake(self, self._tls)

    def _go_on(self) -> Connection:
        return Connection(self, is_adopted=True)

    async def stop(self, grace_s: float, *, park: bool = False) -> None:
        """Accept no more, let what is inside finish, and hang up.

        Past the grace, requests are cancelled, which answers them 503. With `park`, connections
        between two requests are kept open in `parked` instead.
        """
        self._is_stopping, self._is_parking = True, park
        await self._stop_accepting()
        for handshake in list(self._handshakes):
            handshake.abort()
        for connection in list(self._connections):
            self.idle(connection)
        await self._until_gone(grace_s)
        for connection in list(self._connections):
            connection.cancel()
        await self._until_gone(1.0)
        for connection in list(self._connections):
            connection.abort()  # a client that does not even read its answer
        self._timer.cancel()
        await asyncio.sleep(0)

    async def _stop_accepting(self) -> None:
        """Leave clients in the backlog; asyncio resets what it accepted just before a close."""
        for server in self._servers:
            for listener in server.sockets:
                self.loop.remove_reader(listener.fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()

    async def _until_gone(self, seconds: float) -> None:
        until = self.loop.time() + seconds
        while self._connections and self.loop.time() < until:
            await asyncio.sleep(0.01)

    def _sweep(self) -> None:
        """End what is late, and tell the time; one timer for all connections."""
        now = self.loop.time()
        self.date = b"date: " + formatdate(time.time(), usegmt=True).encode() + b"\r\n"
        for connection in [each for each in self._connections if each.deadline < now]:
            connection.expire()
        self._timer = self.loop.call_later(SWEEP_S, self._sweep)

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the bodies that are being received or answered."""
        return self._body_bytes

    # ---- what connections ask

    def admit(self, connection: Connection) -> EdgeqError | None:
        """Count a new connection; returns why it cannot stay, or None."""
        self._connections.add(connection)
        self.idle(connection)  # accepted just before a stop
        limit = self.limits.max_connections
        if len(self._connections) + len(self._handshakes) <= limit:
            return None
        return UnavailableError(
            f"{limit} connections are open, as many as are taken",
            hint="Use fewer connections, or raise server.limits.max_connections.",
        )

    def begin(self, handshake: Handshake) -> bool:
        """Count a connection to be; False where it cannot stay."""
        taken = len(self._connections) + len(self._handshakes)
        if self._is_stopping or taken >= self.limits.max_connections:
            return False
        self._handshakes.add(handshake)
        return True

    def end(self, handshake: Handshake) -> None:
        """Stop counting it: a connection has come of it, or nothing."""
        self._handshakes.discard(handshake)

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection that is gone."""
        self._connections.discard(connection)

    def reserve(self, size: int) -> EdgeqError | None:
        """Count bytes of a body against what all may hold together; returns why not, or None."""
        limit = self.limits.max_buffered_bytes
        if size > 0 and self._body_bytes + size > limit:
            return UnavailableError(
                f"requests of {self._body_bytes} bytes are being received or answered; "
                f"{size} more would be over {limit}",
                hint="Send fewer requests at a time, or raise server.limits.max_buffered_bytes.",
            )
        self._body_bytes += max(0, size)
        return None

    def release(self, size: int) -> None:
        """Give back what was reserved."""
        self._body_bytes -= size

    def is_closing(self, connection: Connection) -> bool:
        """True where an answer is the connection's last one."""
        return self._is_stopping and not self._can_park(connection)

    def idle(self, connection: Connection) -> None:
        """Hear of a connection between two requests: once all are to go, it is next."""
        if self._is_stopping:
            # Not at once: the parser may still hold the beginning of the next request.
            self.loop.call_soon(self._let_go, connection)

    def _let_go(self, connection: Connection) -> None:
        if not connection.is_idle:
            return
        if not self._can_park(connection):
            connection.close_idle()
        elif connection.is_flushed():
            self.parked.append(connection.park())

    def _can_park(self, connection: Connection) -> bool:
        return self._is_parking and connection.is_plain
