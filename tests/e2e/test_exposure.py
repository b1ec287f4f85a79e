"""A real daemon that others can reach: what strangers get, and what is rotated while it serves."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest

from edgeq.cli.client import Credentials, DaemonClient
from edgeq.errors import DaemonError
from edgeq.tls import client_context
from tests.certificates import Authority
from tests.e2e.daemon import Daemon

WAIT_S = 20.0


def ask(daemon: Daemon, path: str, tls: ssl.SSLContext, token: str = "") -> tuple[int, str]:
    """Status and WWW-Authenticate of an answer."""
    connection = http.client.HTTPSConnection("127.0.0.1", daemon.http_port, timeout=10, context=tls)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = json.loads(answer.read() or b"{}")
        assert answer.status < 400 or body["error"]
        return answer.status, answer.headers.get("WWW-Authenticate", "")
    finally:
        connection.close()


def until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"not seen: {what}"
        time.sleep(0.05)


def test_strangers_need_the_token_over_tls_and_both_are_rotated_without_a_restart(
    daemon: Daemon, tmp_path: Path
):
    authority, token_file = Authority(tmp_path), tmp_path / "token"
    pair = authority.issue("server")
    token_file.write_text("first\n")
    token_file.chmod(0o600)
    daemon.start(
        {
            "EDGEQ_SERVER_HOST": "0.0.0.0",
            "EDGEQ_SERVER_METRICS_HOST": "127.0.0.1",
            "EDGEQ_SERVER_AUTH_TOKEN_FILE": str(token_file),
            "EDGEQ_SERVER_TLS_CERT_FILE": str(pair.cert_file),
            "EDGEQ_SERVER_TLS_KEY_FILE": str(pair.key_file),
        }
    )
    tls = client_context(authority.ca_file, None, None)
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert ask(daemon, path, tls) == (200, "")
    for path in ("/v2", "/v2/models/none", "/edgeq/status", "/"):
        assert ask(daemon, path, tls) == (401, "Bearer")
    assert ask(daemon, "/v2", tls, "guess") == (401, "Bearer")
    assert ask(daemon, "/v2", tls, "first") == (200, "")
    assert ask(daemon, "/edgeq/status", tls, "first") == (200, "")
    client = DaemonClient(
        url=f"https://127.0.0.1:{daemon.http_port}",
        credentials=Credentials(token_file=token_file, ca_file=authority.ca_file),
    )
    assert client.call("reload")["needs_restart"] == []
    assert daemon.status()["models"] == {}  # the Unix socket needs no token

    token_file.write_text("second\n")
    until(lambda: ask(daemon, "/v2", tls, "second")[0] == 200, "the new token")
    assert ask(daemon, "/v2", tls, "first")[0] == 401

    other = Authority(tmp_path, "other")
    other.issue("server")
    renewed = client_context(other.ca_file, None, None)
    assert ask(daemon, "/v2/health/live", renewed)[0] == 200
    pair.key_file.unlink()
    with pytest.raises(DaemonError, match=r"server\.key cannot be read"):
        daemon.client.call("reload")
    assert ask(daemon, "/v2", renewed, "second")[0] == 200


def test_a_client_certificate_lets_in_where_one_is_asked_for(daemon: Daemon, tmp_path: Path):
    authority = Authority(tmp_path)
    pair, known = authority.issue("server"), authority.issue("client", is_client=True)
    pair.key_file.chmod(0o644)
    daemon.start(
        {
            "EDGEQ_SERVER_HOST": "0.0.0.0",
            "EDGEQ_SERVER_METRICS_HOST": "127.0.0.1",
            "EDGEQ_SERVER_TLS_CERT_FILE": str(pair.cert_file),
            "EDGEQ_SERVER_TLS_KEY_FILE": str(pair.key_file),
            "EDGEQ_SERVER_TLS_CLIENT_CA_FILE": str(authority.ca_file),
            "EDGEQ_SERVER_LIMITS_HEADER_TIMEOUT_S": "1",
        }
    )
    tls = client_context(authority.ca_file, known.cert_file, known.key_file)
    assert ask(daemon, "/edgeq/status", tls) == (200, "")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(daemon, "/v2/health/live", client_context(authority.ca_file, None, None))
    with socket.create_connection(("127.0.0.1", daemon.http_port), timeout=20) as silent:
        silent.sendall(b"\x16\x03\x01")  # the first bytes of a handshake that never ends
        assert silent.recv(1) == b""
    until(lambda: "private key that every user may read" in "".join(daemon.log), "the caution")
    url = f"https://127.0.0.1:{daemon.http_port}"
    shown = Credentials(None, authority.ca_file, known.cert_file, known.key_file)
    with pytest.raises(DaemonError, match="no token is configured"):
        DaemonClient(url=url, credentials=shown).call("reload")


def test_a_daemon_that_everyone_could_use_does_not_start(daemon: Daemon):
    environment = {**os.environ, "EDGEQ_SERVER_HOST": "0.0.0.0"}
    command = [sys.executable, "-m", "edgeq", "run", "--config", str(daemon.config)]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=30
    )
    assert ran.returncode == 2
    assert "server.host is '0.0.0.0', which others can reach" in ran.stderr
    assert "server.auth.anonymous: true" in ran.stderr


@pytest.mark.slow
def test_a_real_prometheus_scrapes_with_a_certificate_and_a_password(
    daemon: Daemon, prometheus_tools: Path, tmp_path: Path
):
    authority = Authority(tmp_path)
    pair, known = authority.issue("server"), authority.issue("scraper", is_client=True)
    text = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(10)).decode()
    web_config = tmp_path / "web.yml"
    web_config.write_text(
        f"tls_server_config: {{cert_file: server.pem, key_file: server.key,\n"
        "  client_auth_type: RequireAndVerifyClientCert, client_ca_file: authority.pem}\n"
        f"basic_auth_users: {{prometheus: {text}}}\n"
    )
    assert pair.cert_file == tmp_path / "server.pem"
    daemon.start({"EDGEQ_SERVER_METRICS_WEB_CONFIG": str(web_config)})
    job = {
        "job_name": "edgeq",
        "scheme": "https",
        "tls_config": {
            "ca_file": str(authority.ca_file),
            "cert_file": str(known.cert_file),
            "key_file": str(known.key_file),
        },
        "basic_auth": {"username": "prometheus", "password": "s3cret"},
        "static_configs": [{"targets": [f"127.0.0.1:{daemon.metrics_port}"]}],
    }
    with Prometheus(prometheus_tools, tmp_path, job) as prometheus:
        until(lambda: prometheus.target()["health"] == "up", "the target up")
        web_config.write_text(web_config.read_text().replace("prometheus:", "another:"))
        until(lambda: prometheus.target()["health"] == "down", "the user gone")
        assert "401" in prometheus.target()["lastError"]


class Prometheus:
    """A server with one job, of a second's interval."""

    def __init__(self, tools: Path, folder: Path, job: dict[str, object]) -> None:
        config = folder / "prometheus.yml"
        interval = {"scrape_interval": "1s"}
        config.write_text(json.dumps({"global": interval, "scrape_configs": [job]}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._command = [
            str(tools / "prometheus"), f"--config.file={config}",
            f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=error",
        ]  # fmt: skip

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def target(self) -> dict[str, str]:
        """Health and last error of the one target."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        nothing = {"health": "unknown", "lastError": ""}
        try:
            connection.request("GET", "/api/v1/targets")
            targets = json.loads(connection.getresponse().read())["data"]["activeTargets"]
            return targets[0] if targets else nothing
        except (OSError, ValueError):
            return nothing
        finally:
            connection.close()
