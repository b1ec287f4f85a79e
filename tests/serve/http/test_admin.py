"""The admin wire, over TCP and over the Unix socket."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgeq.errors import ConflictError, NotFoundError, UnavailableError
from edgeq.serve.rights import Rights

INFER = "/v2/models/echo/infer"
REQUEST = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def test_the_status_is_open(running: Any) -> None:
    assert running.request("GET", "/edgeq/status").json()["ratio"] is None


def test_a_report_is_a_page_that_may_load_nothing(running: Any) -> None:
    answer = running.request("GET", "/edgeq/models/echo/versions/1/report")
    assert (answer.status, answer.body) == (200, b"<h1>echo</h1>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    missing = running.request("GET", "/edgeq/models/echo/versions/2/report")
    assert missing.status == 404


def test_admin_calls_over_tcp_are_refused_without_a_token_in_the_configuration(
    running: Any,
) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        answer = running.request("POST", "/edgeq/pin", {"name": "echo"}, headers)
        assert answer.status == 403
        assert "no token is configured" in answer.error
    assert running.request("POST", "/edgeq/samples/echo?filename=x.npz", b"").status == 403
    assert running.admin.calls == []


def test_no_header_makes_tcp_look_like_the_unix_socket(running: Any) -> None:
    headers = {"X-Forwarded-For": "unix:", "Forwarded": "for=unix", "Host": "unix"}
    assert running.request("POST", "/edgeq/pin", {}, headers).status == 403


def test_admin_calls_pass_with_the_token_or_over_the_unix_socket(start: Any) -> None:
    running = start(rights=Rights("swordfish"))
    good, bad = {"Authorization": "Bearer swordfish"}, {"Authorization": "Bearer sw"}
    assert running.request("POST", "/edgeq/pin", {"name": "a"}, bad).status == 401
    assert running.request("POST", "/edgeq/pin", {"name": "a"}, good).json() == {"done": "pin"}
    assert running.request("POST", "/edgeq/reload", unix=True).json() == {"done": "reload"}
    assert running.admin.calls == [("pin", {"name": "a"}, b""), ("reload", {}, b"")]


def test_samples_are_uploaded_as_they_are(running: Any) -> None:
    path = "/edgeq/samples/echo"
    assert running.request("POST", path, b"PK", unix=True).status == 400
    answer = running.request("POST", f"{path}?filename=a%20b.npz", b"PK\0\xff", unix=True)
    assert answer.json() == {"done": "samples-add"}
    expected = ("samples-add", {"name": "echo", "filename": "a b.npz"}, b"PK\0\xff")
    assert running.admin.calls == [expected]
    assert running.request("POST", f"{path}?filename=a", bytes(2 << 20), unix=True).status == 413


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"'])
def test_admin_arguments_are_a_json_object(running: Any, body: bytes) -> None:
    assert running.request("POST", "/edgeq/pin", body, unix=True).status == 400


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("command 'x' is unknown"), 404),
        (ConflictError("model 'a' is pinned"), 409),
        (UnavailableError("shutting down"), 503),
        (RuntimeError("bug"), 500),
    ],
)
def test_admin_errors_have_their_status(running: Any, error: Exception, status: int) -> None:
    running.admin.error = error
    answer = running.request("POST", "/edgeq/x", {}, unix=True)
    assert answer.status == status
    assert answer.error
    assert running.request("GET", "/edgeq/status").status == status


def test_an_admin_call_that_waits_does_not_hold_up_requests(running: Any) -> None:
    with ThreadPoolExecutor(1) as client:
        slow = client.submit(running.request, "POST", "/edgeq/slow", {}, unix=True)
        while not running.admin.calls:
            time.sleep(0.005)
        assert running.request("POST", INFER, REQUEST).status == 200
        assert not slow.done()
        assert slow.result().status == 200
