"""Who can reach a server, and who may: the rules over the keys of `server`."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.config import Config, load
from edgeq.errors import ConfigError
from edgeq.serve.limits import Limits
from edgeq.tls import TlsOptions


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "edgeq.yaml"
    path.write_text(text)
    return load(path, {})


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'", "192.0.2.7", "nobody-knows.invalid"])
def test_beyond_loopback_needs_a_word_on_who_may(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which others can reach") as caught:
        loaded(tmp_path, f"log: {{}}\nserver: {{host: {host}}}")
    assert f"{tmp_path}/edgeq.yaml:2: server.host is" in caught.value.message
    for way in ("server.auth.token_file", "server.tls.client_ca_file", "server.auth.anonymous"):
        assert way in caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "'::1'", "127.1.2.3"])
def test_loopback_needs_nothing(host: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, f"server: {{host: {host}}}").server.auth.token_file is None


@pytest.mark.parametrize(
    "given",
    ["auth: {token_file: token}", "auth: {anonymous: true}",
     "tls: {cert_file: c, key_file: k, client_ca_file: a}"],
)  # fmt: skip
def test_a_token_or_client_certificates_or_anonymous_will_do(given: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, f"server: {{host: 0.0.0.0, {given}}}").server.host == "0.0.0.0"


def test_a_certificate_of_the_server_alone_tells_no_stranger_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which others can reach"):
        loaded(tmp_path, "server: {host: 0.0.0.0, tls: {cert_file: c, key_file: k}}")


def test_the_environment_may_expose_the_server_and_say_who_may() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"EDGEQ_SERVER_HOST": "0.0.0.0"})
    assert caught.value.message.startswith("EDGEQ_SERVER_HOST: server.host is '0.0.0.0', which")
    assert load(None, {"EDGEQ_SERVER_HOST": "0.0.0.0", "EDGEQ_SERVER_AUTH_ANONYMOUS": "true"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{cert_file: c}", "go together; one is missing"),
        ("{key_file: k}", "go together; one is missing"),
        ("{client_ca_file: a}", "needs cert_file and key_file"),
    ],
)
def test_half_of_tls_is_an_error(given: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, f"server: {{tls: {given}}}")


def test_a_client_authority_makes_certificates_required(tmp_path: Path) -> None:
    assert Config().server.tls.options is None
    files = "cert_file: c, key_file: k"
    plain = loaded(tmp_path, f"server: {{tls: {{{files}}}}}").server.tls.options
    assert plain == TlsOptions(tmp_path / "c", tmp_path / "k")
    mutual = loaded(tmp_path, f"server: {{tls: {{{files}, client_ca_file: a}}}}").server.tls.options
    assert mutual == TlsOptions(tmp_path / "c", tmp_path / "k", tmp_path / "a", "required")


def test_the_limits_are_the_server_s_own_by_default() -> None:
    assert Config().server.limits_of_clients == Limits()


def test_every_limit_comes_from_its_key() -> None:
    limits = {"max_connections": 1, "max_header_bytes": 2, "max_buffered_bytes": 4,
              "header_timeout_s": 5.0, "body_timeout_s": 6.0, "idle_timeout_s": 7.0,
              "write_timeout_s": 8.0}  # fmt: skip
    server = Config.model_validate({"server": {"limits": limits, "max_body_bytes": 3}}).server
    assert server.limits_of_clients == Limits(max_body_bytes=3, **limits)  # type: ignore[arg-type]


def test_a_body_that_would_never_be_taken_is_an_error() -> None:
    with pytest.raises(ValueError, match="would never be taken"):
        Config.model_validate({"server": {"max_body_bytes": "512MiB"}})


def test_metrics_listen_where_the_server_does_unless_they_are_told() -> None:
    assert Config().server.metrics_address == "127.0.0.1"
    server = Config.model_validate({"server": {"metrics_host": "192.0.2.1"}}).server
    assert server.metrics_address == "192.0.2.1"


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ({"http_port": 8001}, "http_port and grpc_port are both 8001"),
        ({"metrics_port": 8000}, "http_port and metrics_port are both 8000"),
        ({"grpc_port": 8002}, "grpc_port and metrics_port are both 8002"),
    ],
)
def test_two_servers_do_not_share_a_port(ports: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Config.model_validate({"server": ports})
    free = Config.model_validate({"server": {"http_port": 8001, "grpc_port": None}}).server
    assert free.http_port == 8001
    Config.model_validate({"server": dict.fromkeys(("http_port", "metrics_port"), 0)})
