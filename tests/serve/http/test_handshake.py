"""TLS before a connection is one: as bounded as what comes after."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeq.serve.rights import Peer, Rights
from edgeq.tls import TlsOptions, client_context, server_context
from tests.certificates import Authority

HELLO = b"\x16\x03\x01"  # the first bytes of a handshake


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("server")
    return server_context(TlsOptions(pair.cert_file, pair.key_file))


def ask(
    running: Any, client: ssl.SSLContext, method: str = "GET", path: str = "/v2", body: bytes = b""
) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", running.port, timeout=10, context=client)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ended(client: socket.socket) -> bool:
    """True once the server has hung up, however."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def wait_for_handshakes(running: Any, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(running.frontend._handshakes) != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_requests_of_any_size_pass_over_tls_on_one_connection(start, tls, authority) -> None:
    running = start(tls=tls, max_body_bytes=16 << 20)
    client = client_context(authority.ca_file, None, None)
    connection = http.client.HTTPSConnection("127.0.0.1", running.port, timeout=10, context=client)
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    for padding in (0, 1 << 10, 1 << 20):
        body = json.dumps({"inputs": [tensor]}) + " " * padding
        connection.request("POST", "/v2/models/echo/infer", body)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (200, None)
        assert json.loads(answer.read())["outputs"][0]["data"] == [1, 2, 3, 4]
    connection.close()


def test_a_request_that_comes_with_the_handshake_s_last_message_is_answered(
    start, tls, authority
) -> None:
    """Its bytes are there before the connection is."""
    running = start(tls=tls)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority.ca_file, None, None)
    end = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as raw:
        is_done = False
        while not is_done:
            try:
                end.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        end.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw.sendall(outgoing.read())  # Finished and the request, in one piece
        answer = b""
        while b'{"live":true}' not in answer:
            try:
                answer += end.read(65536)
            except ssl.SSLWantReadError:
                piece = raw.recv(65536)
                assert piece, answer
                incoming.write(piece)
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_handshakes_count_as_connections(start, tls, authority) -> None:
    running = start(tls=tls, max_connections=3)
    address, client = ("127.0.0.1", running.port), client_context(authority.ca_file, None, None)
    silent = [socket.create_connection(address, timeout=10) for _ in range(3)]
    wait_for_handshakes(running, 3)
    with socket.create_connection(address, timeout=10) as fourth:
        assert ended(fourth)
    assert running.request("GET", "/v2", unix=True).status == 503
    for connection in silent:
        connection.close()
    wait_for_handshakes(running, 0)
    assert ask(running, client)[0] == 200


def test_a_handshake_that_never_ends_is_cut_off(start, tls) -> None:
    running = start(tls=tls, header_timeout_s=0.2)
    for said in (b"", HELLO):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
            client.sendall(said)
            assert ended(client)
    wait_for_handshakes(running, 0)


def test_who_speaks_no_tls_is_hung_up_on(start, tls) -> None:
    running = start(tls=tls)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        while piece := client.recv(100):  # an alert, in TLS
            assert not piece.startswith(b"HTTP")
    wait_for_handshakes(running, 0)


def test_a_stop_does_not_wait_for_handshakes(start, tls) -> None:
    running = start(tls=tls)
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        wait_for_handshakes(running, 1)
        began = time.monotonic()
        running.stop(grace_s=5)
        assert time.monotonic() - began < 4
        assert ended(client)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio waits there for the grace")
def test_a_stop_does_not_wait_for_the_farewell_of_idle_clients(start, tls, authority) -> None:
    running = start(tls=tls)
    client = client_context(authority.ca_file, None, None)
    connection = http.client.HTTPSConnection("127.0.0.1", running.port, timeout=10, context=client)
    connection.request("GET", "/v2")
    assert connection.getresponse().read()
    began = time.monotonic()
    running.stop(grace_s=10)
    assert time.monotonic() - began < 5
    connection.close()


def test_a_verified_certificate_is_what_rights_see(start, authority, monkeypatch) -> None:
    pair, known = authority.issue("server"), authority.issue("known", is_client=True)
    options = TlsOptions(pair.cert_file, pair.key_file, authority.ca_file, "required")
    seen: list[Peer] = []
    monkeypatch.setattr(Rights, "is_open", lambda self, purpose, peer: not seen.append(peer))
    running = start(tls=server_context(options), rights=Rights())
    client = client_context(authority.ca_file, known.cert_file, known.key_file)
    assert ask(running, client)[0] == 200
    assert seen == [Peer(is_unix=False, is_loopback=True, has_client_certificate=True)]
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(running, client_context(authority.ca_file, None, None))
