"""TLS and client certificates, with real handshakes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgeq.errors import ConfigError
from edgeq.serve.grpc.credentials import ServerCertificates
from edgeq.serve.rights import Rights
from edgeq.tls import TlsOptions
from tests.certificates import Authority, Pair
from tests.serve.grpc.conftest import Serving, StartGrpc

MODEL_READY = "/inference.GRPCInferenceService/ModelReady"
ECHO_REQUEST = b"\x0a\x04echo"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def ask(serving: Serving, authority: Authority, client: Pair | None = None) -> bytes:
    credentials = grpc.ssl_channel_credentials(
        authority.ca_file.read_bytes(),
        client and client.key_file.read_bytes(),
        client and client.cert_file.read_bytes(),
    )
    target = f"localhost:{serving.frontend.port}"
    with grpc.secure_channel(target, credentials) as channel:
        answer: Any = channel.unary_unary(MODEL_READY)(ECHO_REQUEST, timeout=5)
    assert isinstance(answer, bytes)
    return answer


def options(pair: Pair, authority: Authority | None = None) -> TlsOptions:
    if authority is None:
        return TlsOptions(pair.cert_file, pair.key_file)
    return TlsOptions(pair.cert_file, pair.key_file, authority.ca_file, "required")


def test_calls_are_encrypted(start_grpc: StartGrpc, authority: Authority) -> None:
    serving = start_grpc(tls=options(authority.issue("server")))
    assert ask(serving, authority) == b"\x08\x01"
    with pytest.raises(grpc.RpcError):
        serving.call("ServerLive", timeout=2)


def test_a_client_certificate_opens_what_is_exposed(
    start_grpc: StartGrpc, authority: Authority, tmp_path: Path
) -> None:
    tls = options(authority.issue("server"), authority)
    serving = start_grpc(tls=tls, rights=Rights(is_exposed=True))
    assert ask(serving, authority, authority.issue("client", is_client=True)) == b"\x08\x01"
    with pytest.raises(grpc.RpcError):
        ask(serving, authority)
    stranger = Authority(tmp_path, "stranger").issue("thief", is_client=True)
    with pytest.raises(grpc.RpcError):
        ask(serving, authority, stranger)


def test_new_files_are_used_from_the_next_handshake_on(
    start_grpc: StartGrpc, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("server")
    serving = start_grpc(tls=options(pair))
    assert ask(serving, authority)
    pair.key_file.write_text("")  # a rotation that is halfway
    with caplog.at_level(logging.WARNING):
        assert ask(serving, authority)
    assert "the last certificate stays in force" in caplog.text
    other = Authority(tmp_path, "other")
    other.issue("server")  # over the same files
    assert ask(serving, other)
    with pytest.raises(grpc.RpcError):
        ask(serving, authority)


def test_files_are_read_again_once_they_changed(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("server")
    certificates = ServerCertificates(options(pair, authority))
    assert certificates._changed() is None
    authority.issue("server")
    assert certificates._changed() is not None
    pair.cert_file.write_text("")
    assert certificates._changed() is None
    assert f"{pair.cert_file} holds no certificate" in caplog.text
    assert certificates._changed() is None
    assert len(caplog.records) == 1  # not at every handshake


def test_files_that_cannot_be_used_are_named_at_the_start(
    start_grpc: StartGrpc, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        start_grpc(tls=TlsOptions(tmp_path / "absent.pem", tmp_path / "absent.key"))
