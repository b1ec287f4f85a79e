"""An ASGI app on a TCP port and a Unix socket: bind, serve, stop gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import math
import os
import socket
import stat
from collections.abc import Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgeq.errors import EdgeqError
from edgeq.serve.rights import IS_UNIX_SOCKET

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 75  # longer than the pools of usual clients keep a connection that they reuse
SOCKET_MODE = 0o660
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
        self._socket_file: tuple[int, ...] = ()
        self._sockets: list[socket.socket] = []
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
        tcp = _bind_tcp(self._host, self.port)
        self._sockets.append(tcp)
        self.port = tcp.getsockname()[1]
        if self._unix_socket is not None:
            try:
                self._sockets.append(_bind_unix(self._unix_socket))
                self._socket_file = _identity(self._unix_socket)
            except BaseException:
                self._close()
                raise

    def run(self) -> None:
        """Serve until `stop`; blocks the calling thread."""
        try:
            self._server.run(sockets=list(self._sockets))
        finally:
            self._close()
            self._remove_socket_file()

    def stop(self, grace_s: float) -> None:
        """Let `run` return: no new connections, running requests get `grace_s` to finish.

        Safe from any thread; returns at once.
        """
        self._server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        self._server.should_exit = True

    def _remove_socket_file(self) -> None:
        """Leave alone what the next daemon put there while this one let its requests finish."""
        path = self._unix_socket
        if path is not None and _identity(path) == self._socket_file:
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()


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


def _bind_tcp(host: str, port: int) -> socket.socket:
    try:
        return _listen(host, port)
    except OSError as error:
        where = f"{host or '*'}:{port}"
        reason = error.strerror or str(error)
        raise EdgeqError(f"cannot listen on {where}: {reason}", hint=_tcp_hint(error)) from error


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)


def _tcp_hint(error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "Stop the other server (`ss -ltnp` names it), or set another port.",
        errno.EACCES: "Set a port of 1024 or more.",
        errno.EADDRNOTAVAIL: "Set server.host to an address of this box.",
    }
    return hints.get(error.errno or 0, "Set server.host to an address or name of this box.")


def _bind_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        # Before the bind: Linux makes the file with the descriptor's mode, so that nobody else
        # can connect in between.
        os.fchmod(listener.fileno(), SOCKET_MODE)
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)  # what the umask took away
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise EdgeqError(
            f"cannot listen on {path}: {error.strerror or error}",
            hint="Set server.unix_socket to a path of under 100 bytes that edgeq may write to.",
        ) from error
    except BaseException:
        listener.close()
        raise
    return listener


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
