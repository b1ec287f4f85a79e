from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from edgeq.config import read_web_config
from edgeq.observe import metrics_server
from edgeq.observe.metrics import Metrics
from edgeq.observe.metrics_server import MetricsServer
from edgeq.observe.web_access import AccessFile
from edgeq.tls import client_context
from tests.certificates import Authority

HASH = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode()
GOOD = {"Authorization": "Basic YWxpY2U6czNjcmV0"}  # alice:s3cret
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
MUTUAL = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.pem\n"
USERS = f"basic_auth_users: {{alice: {HASH}}}\n"

Start = Callable[..., MetricsServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers with a web-config.yml, if a text is given, and closes them."""
    started = []

    def start(web_config: str | None = None) -> MetricsServer:
        access = None
        if web_config is not None:
            (tmp_path / "web.yml").write_text(web_config)
            access = AccessFile(tmp_path / "web.yml", read_web_config, lambda error: None)
        server = MetricsServer(
            Metrics("0.1.0", "runtime"), socket.create_server(("127.0.0.1", 0)), access
        )
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("server")
    return made


def get(
    server: MetricsServer,
    tls: ssl.SSLContext | None = None,
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    kind = http.client.HTTPConnection if tls is None else http.client.HTTPSConnection
    options = {} if tls is None else {"context": tls}
    connection = kind("127.0.0.1", server.port, timeout=10, **options)  # type: ignore[arg-type]
    try:
        connection.request(method, "/metrics", headers=headers or {})
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.headers.items()}
        return response.status, named, response.read()
    finally:
        connection.close()


# ---- everyone, over plain TCP


def test_a_scrape_gets_the_page_in_the_format_that_it_asks_for(start: Start) -> None:
    server = start()
    status, headers, body = get(server)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b"edgeq_build_info{" in body
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    _, headers, body = get(server, headers={"Accept": accept, "Accept-Encoding": "gzip"})
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert headers["content-encoding"] == "gzip"
    assert int(headers["content-length"]) == len(body)


def test_the_head_of_a_page_comes_without_it(start: Start) -> None:
    status, headers, body = get(start(), method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


def test_after_the_close_the_port_is_free_and_no_thread_is_left() -> None:
    server = MetricsServer(Metrics("0.1.0", "runtime"), socket.create_server(("127.0.0.1", 0)))
    lingering = socket.create_connection(("127.0.0.1", server.port))
    assert get(server)[0] == 200
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < metrics_server.DEADLINE_S / 2
    lingering.close()
    with socket.create_server(("127.0.0.1", server.port)):
        assert not any("metrics" in t.name.lower() for t in threading.enumerate())


# ---- slow and many


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(start: Start, monkeypatch) -> None:
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.3)
    server = start()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as slow:
        slow.settimeout(0.05)
        ended = False
        while not ended and time.monotonic() - began < 5:
            try:
                slow.send(b"G")
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
    assert ended
    assert get(server)[0] == 200


def test_idle_connections_beyond_the_bound_are_closed_and_hold_up_nobody_for_long(
    start: Start, monkeypatch
) -> None:
    monkeypatch.setattr(metrics_server, "MAX_CONNECTIONS", 3)
    server = start()
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(4)]
    assert idle[3].recv(1) == b""  # the accepting thread takes them in order
    for connection in idle:
        connection.close()
    deadline = time.monotonic() + 10
    status = 0
    while status != 200 and time.monotonic() < deadline:
        try:
            status = get(server)[0]
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.01)
    assert status == 200


# ---- users, headers, rate


def test_users_need_their_password(start: Start) -> None:
    server = start(USERS + "http_server_config: {headers: {X-Frame-Options: deny}}")
    status, headers, body = get(server)
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="edgeq metrics"')
    assert b"edgeq_build_info" not in body
    assert headers["x-frame-options"] == "deny"
    status, headers, _ = get(server, headers=GOOD)
    assert (status, headers["x-frame-options"]) == (200, "deny")
    assert get(server, headers={"Authorization": "Basic YWxpY2U6Z3Vlc3M="})[0] == 401


def test_more_than_the_rate_is_429(start: Start) -> None:
    server = start("rate_limit: {interval: 1h, burst: 2}")
    assert [get(server)[0] for _ in range(3)] == [200, 200, 429]


# ---- TLS


def test_over_tls_a_client_that_trusts_the_authority_scrapes(start: Start, authority) -> None:
    server = start(TLS)
    assert get(server, client_context(authority.ca_file, None, None))[0] == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        get(server, client_context(None, None, None))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        get(server)  # plain
    assert get(server, client_context(authority.ca_file, None, None))[0] == 200


def test_a_client_needs_a_certificate_with_an_allowed_name(start: Start, authority) -> None:
    server = start(TLS + MUTUAL + "  client_allowed_sans: [scraper, 10.0.0.7]\n")
    for name, names, is_welcome in (
        ("first", ("scraper",), True),
        ("second", ("other", "10.0.0.7"), True),
        ("third", ("other",), False),
    ):
        pair = authority.issue(name, names, is_client=True)
        tls = client_context(authority.ca_file, pair.cert_file, pair.key_file)
        if is_welcome:
            assert get(server, tls)[0] == 200
        else:
            with pytest.raises((OSError, http.client.HTTPException)):
                get(server, tls)
    with pytest.raises((OSError, http.client.HTTPException)):
        get(server, client_context(authority.ca_file, None, None))


def test_file_and_certificate_are_followed_without_a_restart(start: Start, authority, tmp_path):
    server = start(TLS)
    tls = client_context(authority.ca_file, None, None)
    assert get(server, tls)[0] == 200
    (tmp_path / "web.yml").write_text(TLS + USERS)
    assert get(server, tls)[0] == 401
    other = Authority(tmp_path, "other")
    other.issue("server")
    with pytest.raises(ssl.SSLCertVerificationError):
        get(server, tls)
    assert get(server, client_context(other.ca_file, None, None), headers=GOOD)[0] == 200


def test_a_handshake_that_never_ends_is_cut_off(start: Start, authority, monkeypatch) -> None:
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.3)
    server = start(TLS)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as silent:
        silent.sendall(b"\x16\x03\x01")  # the first bytes of a handshake
        assert silent.recv(1) == b""


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl; it is not here")
def test_curl_scrapes_with_tls_a_certificate_and_a_password(start: Start, authority) -> None:
    server = start(TLS + MUTUAL + USERS)
    client = authority.issue("client", is_client=True)
    command = [
        "curl", "-sS", "--max-time", "10", "--cacert", authority.ca_file,
        "--cert", client.cert_file, "--key", client.key_file, "--user", "alice:s3cret",
        "--write-out", "%{http_code}", f"https://127.0.0.1:{server.port}/metrics",
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith("200")
    assert "edgeq_build_info{" in ran.stdout
