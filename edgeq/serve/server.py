"""An ASGI app on a TCP port and a Unix socket: bind, serve, stop gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import socket
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgeq.serve.listening import (
    BACKLOG,
    Address,
    Listener,
    TcpAddress,
    UnixAddress,
    open_listeners,
)
from edgeq.serve.rights import IS_UNIX_SOCKET
from edgeq.systemd import FdStore, Notifier

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 75  # longer than the pools of usual clients keep a connection that they reuse
MAX_HEAD_BYTES = 64 << 10


class HttpServer:
    """Both listeners of one app.

    Args:
        app: what answers.
        host: an address or a name of this box.
        port: 0 takes any free one; `port` tells which.
        unix_socket: where the socket file goes; None for TCP only.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, unix_socket: Path | None = None) -> None:
        self.port = port
        self._host = host
        self._unix_socket = unix_socket
        self._listeners: list[Listener] = []
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",  # uvloop was not faster, and each server would behave differently
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # nobody may rename himself
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                backlog=BACKLOG,
            )
        )

    def bind(self) -> None:
        """Take the port and the socket file; clients may connect from now on.

        Raises:
            EdgeqError: one of them is in use or not allowed.
        """
        addresses: list[Address] = [TcpAddress("http", self._host, self.port)]
        if self._unix_socket is not None:
            addresses.append(UnixAddress("unix", self._unix_socket))
        self._listeners = open_listeners(addresses, (), FdStore(Notifier(None)))
        self.port = self._listeners[0].port

    def run(self) -> None:
        """Serve until `stop`; blocks the calling thread."""
        try:
            self._server.run(sockets=[each.socket for each in self._listeners])
        finally:
            for listener in self._listeners:
                listener.close()

    def stop(self, grace_s: float) -> None:
        """Let `run` return: no new connections, running requests get `grace_s` to finish.

        Safe from any thread; returns at once.
        """
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, made safe for strangers.

    It tells the app where a connection came from, refuses in JSON, and bounds a request's head,
    which httptools itself would collect until the memory is gone.
    """

    _is_in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection = transport.get_extra_info("socket")
        is_unix = connection.family == socket.AF_UNIX
        self.app_state = {**self.app_state, IS_UNIX_SOCKET: is_unix}
        if not is_unix:
            # asyncio does so itself, but nothing promises it, and without it a request costs 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        self._is_in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"the request's head is over {MAX_HEAD_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": msg}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Uvicorn's server; the daemon has the signals, and no connection outlives the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        # Past the grace: cancelled requests answer 503, and that must still leave the box.
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # a client that does not even read its answer
        await asyncio.sleep(0)
