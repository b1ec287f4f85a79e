from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

INFER = "/v2/models/echo/infer"
REQUEST = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


# -- run --------------------------------------------------------------------------------------


def test_one_connection_carries_many_requests(running: Any) -> None:
    for unix in (False, True):
        connection = running.connection(unix=unix)
        for _ in range(3):
            connection.request("POST", INFER, json.dumps(REQUEST))
            response = connection.getresponse()
            assert response.status == 200
            assert json.loads(response.read())["outputs"][0]["data"] == [1, 2, 3, 4]
        connection.close()


def test_small_answers_do_not_wait_for_acknowledgements(running: Any) -> None:
    connection, times = running.connection(), []
    for _ in range(20):
        started = time.perf_counter()
        connection.request("POST", INFER, json.dumps(REQUEST))
        connection.getresponse().read()
        times.append(time.perf_counter() - started)
    connection.close()
    assert sorted(times)[5] < 0.04  # what Nagle against delayed ACK would cost every one


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("binary", [True, False])
def test_a_body_in_pieces_is_the_same_request(running: Any, step: int, binary: bool) -> None:
    head: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
    given = {"parameters": {"binary_data_size": 16}} if binary else {"data": [1, 2, 3, 4]}
    text = json.dumps({"inputs": [{**head, **given}]}).encode()
    body = text + (np.arange(1, 5, dtype=np.float32).tobytes() if binary else b"")
    headers = {"Inference-Header-Content-Length": str(len(text))} if binary else {}
    connection = running.connection()
    for _ in range(2):
        pieces = (body[at : at + step] for at in range(0, len(body), step))
        connection.request("POST", INFER, pieces, headers, encode_chunked=True)
        response = connection.getresponse()
        assert json.loads(response.read())["outputs"][0]["data"] == [1, 2, 3, 4]
    connection.close()


def test_a_raw_body_in_pieces_is_the_same_request(running: Any) -> None:
    raw = np.arange(1, 5, dtype=np.float32).tobytes()
    headers = {"Inference-Header-Content-Length": "0"}
    connection = running.connection()
    connection.request("POST", INFER, iter([raw[:5], raw[5:]]), headers, encode_chunked=True)
    assert connection.getresponse().read().endswith(raw)
    connection.close()


def test_what_is_not_http_is_refused_in_json(running: Any) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
        client.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body) == {"error": "this is not HTTP/1.1: Invalid method encountered"}


@pytest.mark.parametrize(
    "start_of_head", [b"GET /v2 HTTP/1.1\r\nA: ", b"GET /v2", b"GET /v2 HTTP/1.1\r\n"]
)
def test_an_endless_head_is_refused(running: Any, start_of_head: bytes) -> None:
    piece = b"a: b\r\n" * 1000 if start_of_head.endswith(b"\n") else b"a" * 6000
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
        client.sendall(start_of_head + piece * 10)
        time.sleep(0.05)
        client.sendall(piece)
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"the request's head is over 65536 bytes" in answer


def test_a_big_body_after_a_small_head_is_no_big_head(running: Any) -> None:
    body = json.dumps({**REQUEST, "id": "x" * 200_000})
    for _ in range(2):
        assert running.request("POST", INFER, body.encode()).status == 200


def test_pipelined_requests_are_answered_in_order(running: Any) -> None:
    request = b"GET /v2/health/%s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=5) as client:
        close = b"Connection: close\r\n"
        client.sendall(request % (b"live", b"") + request % (b"ready", close))
        answer = client.makefile("rb").read()
    assert answer.index(b'{"live":true}') < answer.index(b'{"ready":true}')


def test_a_client_that_leaves_does_not_disturb_the_others(running: Any) -> None:
    release = threading.Event()
    running.plane.behave = lambda inputs: {"y": inputs["x"]} if release.wait(10) else {}
    leaver = running.connection()
    leaver.request("POST", INFER, json.dumps(REQUEST))
    while not running.plane.submitted:
        time.sleep(0.005)
    leaver.close()
    half = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    half.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc".encode())
    half.close()
    for _ in range(2):  # turns of the server's loop, in which it hears of both
        assert running.request("GET", "/v2/health/live").status == 200
    with ThreadPoolExecutor(1) as client:
        stayer = client.submit(running.request, "POST", INFER, REQUEST)
        release.set()
        assert stayer.result().status == 200
    # The other half request never became one; who did not wait is no failure of the server's.
    while len(running.records) < 2:
        time.sleep(0.005)
    assert sorted(record.code for record in running.records) == ["200", "499"]


# -- stop -------------------------------------------------------------------------------------


def test_a_running_request_finishes_within_the_grace(start: Any) -> None:
    running = start()
    entered = threading.Event()

    def slow(inputs: Any) -> Any:
        entered.set()
        time.sleep(0.4)
        return {"y": inputs["x"]}

    running.plane.behave = slow
    idle = running.connection()
    idle.request("GET", "/v2")
    idle.getresponse().read()
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(running.request, "POST", INFER, REQUEST)
        assert entered.wait(5)
        running.stop(grace_s=10)
        assert answer.result().status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), timeout=5)
    assert not running.unix_socket.exists()
    idle.close()


def test_a_request_that_outlives_the_grace_is_answered_503(start: Any) -> None:
    running = start(timeout_s=30)
    release, entered = threading.Event(), threading.Event()

    def stuck(inputs: Any) -> Any:
        entered.set()
        release.wait(20)
        return {"y": inputs["x"]}

    running.plane.behave = stuck
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(running.request, "POST", INFER, REQUEST)
        assert entered.wait(5)
        running.server.stop(grace_s=0.1)
        running.thread.join(10)
        got = answer.result()
        release.set()
    assert got.status == 503
    assert "shutting down" in got.error


def test_a_client_that_never_finishes_does_not_hold_up_the_end(start: Any) -> None:
    running = start()
    half = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    half.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nabc".encode())
    silent = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    time.sleep(0.1)
    started = time.monotonic()
    running.stop(grace_s=1)
    assert time.monotonic() - started < 10
    half.close()
    silent.close()


def test_a_client_that_never_reads_does_not_hold_up_the_end(start: Any) -> None:
    running = start()
    running.plane.behave = lambda inputs: {"y": np.zeros((1, 1 << 25), np.uint8)}
    content = json.dumps({**REQUEST, "parameters": {"binary_data_output": True}})
    deaf = running.connection()
    deaf.request("POST", INFER, content)
    while not running.plane.submitted:
        time.sleep(0.005)
    time.sleep(0.2)
    started = time.monotonic()
    running.stop(grace_s=1)
    assert time.monotonic() - started < 10
    deaf.close()


def test_an_admin_call_that_outlives_the_grace_is_answered_503(start: Any) -> None:
    running = start()
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(running.request, "POST", "/edgeq/slow", {}, unix=True)
        while not running.admin.calls:
            time.sleep(0.005)
        running.stop(grace_s=0)
        assert answer.result().status == 503


def test_http_1_0_clients_are_served(running: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
    connection.request("GET", "/v2/health/live")
    assert connection.getresponse().read() == b'{"live":true}'
    connection.close()
