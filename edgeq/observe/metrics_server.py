"""Metrics + who may see them -> `/metrics` on a port of its own, over plain TCP or TLS.

A busy data plane cannot starve the scrape, nor the scrape the data plane: few threads, each
connection one request, and none may take longer than a scraper would wait.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from edgeq.observe.metrics import Metrics
from edgeq.observe.web_access import AccessFile, Gate, WebAccess
from edgeq.tls import names_of

MAX_CONNECTIONS = 32  # a thread each; a scraper opens one or two
DEADLINE_S = 15.0  # of a connection; Prometheus waits 10 s for a scrape unless it is told otherwise
LOOK_INTERVAL_S = 0.5  # at the deadlines


class MetricsServer:
    """Serves from its start to `close`.

    Args:
        metrics: what a scrape shows.
        listener: where scrapers connect; closed in the end.
        access: TLS and users; None: everyone, over plain TCP.
    """

    def __init__(
        self, metrics: Metrics, listener: socket.socket, access: AccessFile | None = None
    ) -> None:
        self._metrics = metrics
        self._access = access
        self._open_to_all = Gate(WebAccess())
        self._listener = listener
        self.port = int(listener.getsockname()[1])
        self._deadlines: dict[socket.socket, float] = {}  # of the connections that are open
        self._threads: list[threading.Thread] = []  # of the latest connections
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="metrics")
        self._thread.start()

    def close(self) -> None:
        """Stop answering, cut what is still connected, and free the port."""
        self._stopping.set()
        self._wake.send(b"x")
        self._thread.join()
        self._cut(float("inf"))
        for thread in self._threads:
            thread.join()
        for end in (self._listener, self._wake, self._woken):
            end.close()

    # ---- the accepting thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                ready = [key.fileobj for key, _ in selector.select(LOOK_INTERVAL_S)]
                if self._listener in ready:
                    self._accept()
                self._cut(time.monotonic())

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:  # it is gone already, or there is no descriptor left: not at full speed
            self._stopping.wait(LOOK_INTERVAL_S)
            return
        if len(self._deadlines) >= MAX_CONNECTIONS:
            connection.close()
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._deadlines[connection] = time.monotonic() + DEADLINE_S
        name = f"metrics-{connection.fileno()}"
        thread = threading.Thread(target=self._serve, args=(connection, address), name=name)
        self._threads.append(thread)
        thread.start()

    def _cut(self, now: float) -> None:
        """End connections whose deadline has passed; their threads see the end of the stream."""
        for connection, deadline in list(self._deadlines.items()):
            if deadline <= now:
                with contextlib.suppress(OSError):  # it ended by itself
                    # Not SSLSocket's own, which takes the TLS state from under its thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    # ---- a connection's thread

    def _serve(self, connection: socket.socket, address: Any) -> None:
        with contextlib.suppress(OSError), connection:  # gone, slow or no TLS: that is no news
            try:
                connection.settimeout(DEADLINE_S)
                gate = self._access.gate() if self._access is not None else self._open_to_all
                if gate.context is None:
                    _Handler(connection, address, gate, self._metrics)
                else:
                    self._serve_encrypted(connection, address, gate, gate.context)
            finally:
                self._deadlines.pop(connection, None)

    def _serve_encrypted(
        self, connection: socket.socket, address: Any, gate: Gate, context: ssl.SSLContext
    ) -> None:
        deadline = self._deadlines[connection]
        with context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ) as encrypted:
            self._deadlines[encrypted] = deadline
            try:
                if self._stopping.is_set():  # `close` may have cut all but this one
                    return
                encrypted.do_handshake()
                allowed = gate.access.allowed_names
                if not allowed or allowed & names_of(encrypted.getpeercert()):
                    _Handler(encrypted, address, gate, self._metrics)
            finally:
                self._deadlines.pop(encrypted)


class _Handler(BaseHTTPRequestHandler):
    """One request of one connection."""

    timeout = DEADLINE_S
    server_version, sys_version = "edgeq", ""

    def __init__(self, connection: socket.socket, address: Any, gate: Gate, metrics: Metrics):
        self._gate = gate
        self._metrics = metrics
        super().__init__(connection, address, None)  # type: ignore[arg-type]  # it asks no server

    def do_GET(self) -> None:
        """Answer with the page, to whoever may see it."""
        if not self._gate.has_room():
            self._answer(HTTPStatus.TOO_MANY_REQUESTS, {}, b"too many requests\n")
        elif not self._gate.knows(self.headers.get("Authorization", "")):
            wanted = {"WWW-Authenticate": 'Basic realm="edgeq metrics"'}
            self._answer(HTTPStatus.UNAUTHORIZED, wanted, b"a user and password are expected\n")
        else:
            path, _, query = self.path.partition("?")
            accepts = (self.headers.get(name, "") for name in ("Accept", "Accept-Encoding"))
            headers, body = self._metrics.scrape(path, query, *accepts)
            self._answer(HTTPStatus.OK, headers, body)

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**self._gate.access.headers, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A scrape is no news."""
