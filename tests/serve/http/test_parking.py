"""Connections in the moment of a stop: nothing that a client sent or waits for gets lost."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import numpy as np
import pytest

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


@pytest.mark.parametrize("before", [1, 5, 20])
def test_who_connects_in_the_moment_of_a_stop_is_parked_or_waits_in_the_backlog(
    start: Any, before: int
) -> None:
    old = start()
    clients = []
    with old.listeners[0].socket.dup() as held:
        for number in range(40):
            if number == before:
                old.server.stop(5, park=True)
            clients.append(connect(old.port))
            clients[-1].sendall(LIVE)
        old.stop(park=True)
        waiting = accept_all(held)
    start(connections=[*old.frontend.parked, *waiting])
    for client in clients:
        with client:
            assert read_until(client, IS_LIVE).startswith(b"HTTP/1.1 200")


def test_the_beginning_of_the_next_request_is_not_lost(start: Any) -> None:
    old = start()
    with connect(old.port) as client:
        client.sendall(LIVE[:30])
        wait_for_half_a_request(old)
        old.server.stop(10, park=True)
        client.sendall(LIVE[30:] + LIVE[:20])
        read_until(client, IS_LIVE)
        client.sendall(LIVE[20:])
        read_until(client, IS_LIVE)
        old.thread.join(10)
        start(connections=old.frontend.parked)
        client.sendall(LIVE)
        read_until(client, IS_LIVE)


def wait_for_half_a_request(running: Any) -> None:
    deadline = time.monotonic() + 10
    while not any(not each.is_idle for each in list(running.frontend._connections)):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_an_answer_that_is_still_being_read_is_read_to_its_end(start: Any) -> None:
    old = start()
    size = 1 << 24
    old.plane.behave = lambda inputs: {"y": np.zeros((1, size), np.uint8)}
    body = json.dumps({**REQUEST, "parameters": {"binary_data_output": True}}).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with connect(old.port) as client:
        client.sendall(head + body)
        start_of_answer = client.recv(1 << 16)
        old.server.stop(10, park=True)
        length = int(start_of_answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        missing = start_of_answer.index(b"\r\n\r\n") + 4 + length - len(start_of_answer)
        while missing:
            missing -= len(client.recv(min(missing, 1 << 16)) or b"x" * (missing + 1))
        old.thread.join(10)
        start(connections=old.frontend.parked)
        client.sendall(LIVE)
        read_until(client, IS_LIVE)
