"""Connections in the moment of a stop: nothing that a client sent or waits for gets lost."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

INFER = "/v2/models/echo/infer"
REQUEST = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
IS_LIVE = b'{"live":true}'


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_until(client: socket.socket, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        chunk = client.recv(1 << 16)
        assert chunk, got[-200:]
        got += chunk
    return got


def accept_all(listener: socket.socket) -> list[socket.socket]:
    """Empty a backlog."""
    listener.setblocking(False)
    accepted = []
    while True:
        try:
            accepted.append(listener.accept()[0])
        except BlockingIOError:
            return accepted


class Hold:
    """Keeps an event loop in one of its turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._entered, self._release = threading.Event(), threading.Event()
        loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._entered.set()
        assert self._release.wait(10)

    def wait(self) -> None:
        assert self._entered.wait(10)

    def release(self) -> None:
        self._release.set()


def test_who_connects_in_the_moment_of_a_stop_is_parked_or_waits_in_the_backlog(
    start: Any,
) -> None:
    old = start()
    earlier = Hold(old.frontend.loop)
    earlier.wait()
    later = Hold(old.frontend.loop)
    old.server.stop(5, park=True)  # in the same turn as `later`
    earlier.release()
    later.wait()
    clients = [connect(old.port) for _ in range(5)]
    with old.listeners[0].socket.dup() as held:
        later.release()
        clients += [connect(old.port) for _ in range(20)]
        for client in clients:
            client.sendall(LIVE)
        old.stop(park=True)
        waiting = accept_all(held)
    assert len(old.frontend.parked) + len(waiting) == len(clients)
    start(connections=[*old.frontend.parked, *waiting])
    for client in clients:
        with client:
            assert read_until(client, IS_LIVE).startswith(b"HTTP/1.1 200")


def test_the_beginning_of_the_next_request_is_not_lost(start: Any) -> None:
    old = start()
    with connect(old.port) as client:
        client.sendall(LIVE[:30])
        wait_until(lambda: [c for c in list(old.frontend._connections) if not c.is_idle])
        old.server.stop(10, park=True)
        wait_until(lambda: old.frontend._is_stopping)
        client.sendall(LIVE[30:] + LIVE[:20])
        read_until(client, IS_LIVE)
        client.sendall(LIVE[20:])
        read_until(client, IS_LIVE)
        old.thread.join(10)
        start(connections=old.frontend.parked)
        client.sendall(LIVE)
        read_until(client, IS_LIVE)


def wait_until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_the_kernel_has_not_taken_of_an_answer_is_sent_before_the_connection_is_parked(
    start: Any,
) -> None:
    client, end = socket.socketpair()
    client.settimeout(10)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    old = start(connections=[end])
    old.plane.behave = lambda inputs: {"y": np.zeros((1, 50_000), np.uint8)}
    with client:
        client.sendall(infer())
        wait_until(lambda: old.records)
        old.server.stop(10, park=True)
        wait_until(lambda: old.frontend._is_stopping)
        old.thread.join(0.1)  # it waits for the client
        read_answer(client)
        old.thread.join(10)
        start(connections=old.frontend.parked)
        client.sendall(LIVE)
        read_until(client, IS_LIVE)


def test_an_answer_that_is_still_being_read_is_read_to_its_end(start: Any) -> None:
    old = start()
    old.plane.behave = lambda inputs: {"y": np.zeros((1, 1 << 24), np.uint8)}
    with connect(old.port) as client:
        client.sendall(infer())
        wait_until(lambda: old.records)
        old.server.stop(10, park=True)
        read_answer(client)
        old.thread.join(10)
        start(connections=old.frontend.parked)
        client.sendall(LIVE)
        read_until(client, IS_LIVE)


def infer() -> bytes:
    """A request for the output's bytes."""
    body = json.dumps({**REQUEST, "parameters": {"binary_data_output": True}}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_answer(client: socket.socket) -> None:
    got = bytearray()
    while b"\r\n\r\n" not in got:
        got += client.recv(1024)
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    missing = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
    while missing:
        chunk = client.recv(min(missing, 1 << 16))
        assert chunk, f"{missing} bytes are missing"
        missing -= len(chunk)
