"""What a client may take: time, bytes, connections; and how it is told."""

from __future__ import annotations

import errno
import json
import select
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

INFER = "/v2/models/echo/infer"
REQUEST = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n".encode()


def connect(running: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=10)


def rest(client: socket.socket) -> bytes:
    """All that the server says before it hangs up."""
    answer = b""
    while piece := client.recv(65536):
        answer += piece
    return answer


def ended(client: socket.socket) -> str:
    """Wait until the server has hung up, without reading what it said; tells how."""
    while True:
        poll = select.poll()
        poll.register(client, select.POLLRDHUP)
        if poll.poll(100):
            error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            return "reset" if error == errno.ECONNRESET else "closed"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\n", b"the request's head did not arrive in time"),
        (HEAD + b"Content-Length: 9\r\n\r\nabc", b"the request's body did not arrive in time"),
    ],
)
def test_a_request_that_never_ends_is_cut_off(start: Any, sent: bytes, said: bytes) -> None:
    running = start(header_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=60)
    with connect(running) as client:
        client.sendall(sent)
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert said in answer


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off_all_the_same(start: Any) -> None:
    running = start(header_timeout_s=0.3, idle_timeout_s=60)
    started = time.monotonic()
    with connect(running) as client:
        client.settimeout(0.05)
        answer = b""
        for byte in b"GET /v2 HTTP/1.1\r\nHost: a-long-name\r\n":
            try:
                client.send(bytes([byte]))
                answer += client.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 1.8


@pytest.mark.parametrize("requests", [0, 1])
def test_an_idle_connection_is_closed_without_a_word(start: Any, requests: int) -> None:
    running = start(header_timeout_s=0.2, idle_timeout_s=0.2)
    with connect(running) as client:
        if requests:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).endswith(b'{"live":true}')
        assert rest(client) == b""


def test_a_client_that_does_not_read_its_answer_is_cut_off(start: Any) -> None:
    running = start(write_timeout_s=0.3)
    running.plane.behave = lambda inputs: {"y": np.zeros((1, 1 << 25), np.uint8)}
    body = json.dumps({**REQUEST, "parameters": {"binary_data_output": True}}).encode()
    with connect(running) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        while not running.records:
            time.sleep(0.01)
        assert ended(client) == "reset"


def test_one_connection_too_many_is_told_so(start: Any) -> None:
    running = start(max_connections=2)
    first, second = connect(running), connect(running)
    for client in (first, second):
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    with connect(running) as third:
        answer = rest(third)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1" in answer
    assert b"2 connections are open, as many as are taken" in answer
    first.close()
    while True:
        with connect(running) as again:
            again.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if rest(again).startswith(b"HTTP/1.1 200"):
                break
    second.close()


def test_bodies_together_are_bounded(start: Any) -> None:
    running = start(max_buffered_bytes=300_000)
    with connect(running) as holder:
        holder.sendall(HEAD + b"Content-Length: 200000\r\n\r\nabc")
        while running.frontend.buffered_bytes < 200_000:
            time.sleep(0.005)
        answer = running.request("POST", INFER, bytes(150_000))
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "150000 more would be over 300000" in answer.error
        assert running.request("POST", INFER, REQUEST).status == 200
    while running.frontend.buffered_bytes:
        time.sleep(0.005)
    assert running.request("POST", INFER, bytes(150_000)).status == 400


def test_an_answer_to_a_body_that_is_too_large_is_read_by_its_sender(start: Any) -> None:
    running = start(max_body_bytes=1000)
    with connect(running) as client:
        client.sendall(HEAD + b"Content-Length: 4000000\r\n\r\n")
        for _ in range(40):
            client.sendall(bytes(10_000))
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_head_request_gets_no_body(running: Any) -> None:
    with connect(running) as client:
        client.sendall(b"HEAD /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length: 13" in answer


@pytest.mark.parametrize("is_inline", [True, False])
def test_many_pipelined_requests_are_answered_one_by_one(running: Any, is_inline: bool) -> None:
    running.plane.is_inline = is_inline
    body = json.dumps({**REQUEST, "id": "%d"})
    count = 300
    with connect(running) as client:
        for number in range(count):
            each = (body % number).encode()
            client.sendall(HEAD + f"Content-Length: {len(each)}\r\n\r\n".encode() + each)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < count or not answers.endswith(b"}"):
            answers += client.recv(65536)
    places = [answers.index(f'"id":"{number}"'.encode()) for number in range(count)]
    assert places == sorted(places)


def test_an_upgrade_is_answered_as_if_nobody_had_asked(running: Any) -> None:
    with connect(running) as client:
        client.sendall(
            b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b'{"live":true}')


@pytest.mark.parametrize(
    "smuggled",
    [
        HEAD
        + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: +3\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length : 3\r\n\r\nabc",
        HEAD + b" folded: x\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(running: Any, smuggled: bytes) -> None:
    with connect(running) as client:
        client.sendall(smuggled)
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"content-length") == 1


# -- parking ------------------------------------------------------------------------------------


def ask(client: socket.socket) -> bytes:
    body = json.dumps(REQUEST).encode()
    client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return client.recv(65536)


def test_an_idle_connection_goes_on_in_the_next_process(start: Any) -> None:
    old = start()
    with connect(old) as client:
        assert ask(client).startswith(b"HTTP/1.1 200")
        old.stop(park=True)
        (kept,) = old.frontend.parked
        body = json.dumps(REQUEST).encode()
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        new = start(connections=[kept])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert ask(client).startswith(b"HTTP/1.1 200")
        while len(new.records) < 2:
            time.sleep(0.005)


def test_a_request_inside_is_answered_before_its_connection_is_parked(start: Any) -> None:
    old = start()
    release, entered = threading.Event(), threading.Event()

    def slow(inputs: Any) -> Any:
        entered.set()
        assert release.wait(10)
        return {"y": inputs["x"]}

    old.plane.behave = slow
    with connect(old) as client:
        body = json.dumps(REQUEST).encode()
        client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert entered.wait(10)
        old.server.stop(10, park=True)
        release.set()
        answer = client.recv(65536)
        old.thread.join(10)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" not in answer
        start(connections=old.frontend.parked)
        assert ask(client).startswith(b"HTTP/1.1 200")


def test_half_a_request_keeps_a_connection_from_being_parked(start: Any) -> None:
    old = start()
    with connect(old) as client:
        client.sendall(HEAD + b"Content-Length: 9\r\n\r\nabc")
        while not old.frontend.buffered_bytes:
            time.sleep(0.005)
        old.stop(grace_s=0.1, park=True)
        assert old.frontend.parked == []
        assert ended(client) in ("closed", "reset")


def test_a_parked_connection_whose_client_has_gone_is_let_go(start: Any) -> None:
    old = start()
    client = connect(old)
    assert ask(client).startswith(b"HTTP/1.1 200")
    old.stop(park=True)
    client.close()
    new = start(connections=old.frontend.parked)
    assert new.request("GET", "/v2/health/live").status == 200
