"""Clients that ask one model over and over, and what became of every request."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

TIMEOUT_S = 30.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


Connect = Callable[[], http.client.HTTPConnection]


def tcp(port: int) -> Connect:
    """Connect to a port of this box."""
    return lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)


def unix(path: Path) -> Connect:
    """Connect to a socket file."""
    return lambda: UnixConnection(path)


class Load:
    """Threads that infer until `stop`; nothing is tried twice, and a failure ends its thread.

    Args:
        keep_alive: one client each, on one connection for all its requests.
        new: one client each, on a new connection for each request.
    """

    def __init__(
        self,
        model: str,
        tensor: str,
        values: np.ndarray,
        *,
        keep_alive: list[Connect],
        new: list[Connect],
    ) -> None:
        given = {"name": tensor, "shape": values.shape, "datatype": "FP32"}
        self._body = json.dumps({"inputs": [{**given, "data": values.ravel().tolist()}]})
        self._path = f"/v2/models/{model}/infer"
        self._ended = threading.Event()
        self.failures: list[str] = []
        self.seconds: list[float] = []  # of each request that was answered
        self._threads = [
            threading.Thread(target=self._run, args=(connect, is_kept))
            for is_kept, connects in ((True, keep_alive), (False, new))
            for connect in connects
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, connect: Connect, is_kept: bool) -> None:
        connection = connect()
        try:
            while not self._ended.is_set():
                connection = connect()
                with contextlib.closing(connection):
                    self._ask(connection, is_kept)
        except (OSError, http.client.HTTPException) as error:
            kind = "a kept" if is_kept else "a new"
            self.failures.append(f"{kind} {type(connection).__name__}: {error!r}")

    def _ask(self, connection: http.client.HTTPConnection, is_kept: bool) -> None:
        started = time.monotonic()
        connection.connect()
        end = connection.sock
        while not self._ended.is_set():
            self._infer(connection)
            self.seconds.append(time.monotonic() - started)
            if not is_kept:
                return
            if connection.sock is not end:
                raise ConnectionError("the connection was not kept open")
            started = time.monotonic()

    def _infer(self, connection: http.client.HTTPConnection) -> None:
        connection.request("POST", self._path, self._body)
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"{response.status} {content[:200]!r}")

    def wait_for(self, more: int, within_s: float = TIMEOUT_S) -> None:
        """Wait until so many more requests were answered."""
        until, mark = time.monotonic() + within_s, len(self.seconds)
        while len(self.seconds) < mark + more:
            assert self.failures == []
            assert time.monotonic() < until
            time.sleep(0.005)

    def stop(self) -> None:
        """End all clients."""
        self._ended.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
