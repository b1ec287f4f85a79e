from __future__ import annotations

import pytest

from edgeq.cli.client import DaemonClient
from edgeq.errors import DaemonError, UsageError


def test_the_socket_needs_no_token(daemon):
    daemon.answers["/edgeq/status"] = (200, {"models": {}})
    assert DaemonClient(unix_socket=daemon.socket).status() == {"models": {}}
    (method, path, headers, body) = daemon.requests[0]
    assert (method, path, body) == ("GET", "/edgeq/status", b"")
    assert "Authorization" not in headers


def test_a_command_carries_its_arguments_as_json(daemon):
    daemon.answers["/edgeq/rollback"] = (200, {"name": "face", "version": "2"})
    client = DaemonClient(unix_socket=daemon.socket)
    assert client.call("rollback", name="face", to=None)["version"] == "2"
    assert daemon.asked == [("/edgeq/rollback", {"name": "face", "to": None})]
    assert daemon.requests[0][2]["Content-Type"] == "application/json"


def test_tcp_sends_the_token_of_the_environment(daemon, monkeypatch):
    daemon.token = "s3cret"
    daemon.answers["/edgeq/pin"] = (200, {"name": "face"})
    monkeypatch.setenv("EDGEQ_TOKEN", " s3cret\n")
    assert DaemonClient(url=daemon.url).call("pin", name="face") == {"name": "face"}


def test_a_wrong_token_is_the_daemon_s_refusal_with_its_hint(daemon, monkeypatch):
    daemon.token = "s3cret"
    monkeypatch.setenv("EDGEQ_TOKEN", "guess")
    with pytest.raises(DaemonError, match="needs a token") as caught:
        DaemonClient(url=daemon.url).call("pin", name="face")
    assert caught.value.hint == "Set EDGEQ_TOKEN."


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "sécret"])
def test_a_token_that_no_header_can_carry_is_refused(token, daemon, monkeypatch):
    monkeypatch.setenv("EDGEQ_TOKEN", token)
    with pytest.raises(UsageError, match="EDGEQ_TOKEN"):
        DaemonClient(url=daemon.url).status()
    assert daemon.requests == []


def test_samples_travel_as_bytes_under_their_name(daemon, tmp_path):
    path = tmp_path / "a b&c.npz"
    path.write_bytes(b"content")
    daemon.answers["/edgeq/samples/fa%2Fce"] = (200, {"added": 1})
    DaemonClient(unix_socket=daemon.socket).add_samples("fa/ce", path)
    _, target, headers, body = daemon.requests[0]
    assert target == "/edgeq/samples/fa%2Fce?filename=a%20b%26c.npz"
    assert (headers["Content-Type"], body) == ("application/octet-stream", b"content")


def test_no_daemon_says_where_and_what_to_do(tmp_path):
    with pytest.raises(DaemonError, match=r"no daemon answers at .*nothing\.sock: ") as caught:
        DaemonClient(unix_socket=tmp_path / "nothing.sock").status()
    assert "edgeq run" in caught.value.hint
    with pytest.raises(DaemonError, match=r"127.0.0.1:1: Connection refused"):
        DaemonClient(url="http://127.0.0.1:1").status()


def test_a_socket_path_that_is_too_long_is_an_error_and_no_crash(tmp_path):
    with pytest.raises(DaemonError, match="too long"):
        DaemonClient(unix_socket=tmp_path / ("x" * 120)).status()


@pytest.mark.parametrize(
    "url",
    ["ftp://box:8000", "box:8000", "http://", "http://box:port", "http://box:99999",
     "http://box/edgeq", "http://box:8000/?a=b", ""],
)  # fmt: skip
def test_an_address_that_is_none_is_bad_usage(url):
    with pytest.raises(UsageError, match="--url is") as caught:
        DaemonClient(url=url)
    assert "https://HOST:PORT" in caught.value.hint


def test_without_any_address_it_says_what_to_name():
    with pytest.raises(UsageError, match="no daemon is named"):
        DaemonClient()


@pytest.mark.parametrize("answer", [b"<html>", b"", b"[]", b"\xff"])
@pytest.mark.parametrize("code", [200, 502])
def test_an_answer_that_is_not_edgeq_s_says_so(answer, code, daemon):
    daemon.answers["/edgeq/status"] = (code, answer)
    with pytest.raises(DaemonError, match=f"status {code} and is no JSON object") as caught:
        DaemonClient(unix_socket=daemon.socket).status()
    assert "address" in caught.value.hint


def test_an_error_without_words_still_names_its_status(daemon):
    daemon.answers["/edgeq/status"] = (500, {})
    with pytest.raises(DaemonError, match="the daemon answered 500"):
        DaemonClient(unix_socket=daemon.socket).status()
