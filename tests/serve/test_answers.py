from __future__ import annotations

import inspect
import json
import logging

import pytest

from edgeq import errors
from edgeq.serve.answers import STATUS, error_response, json_response, status_of


def test_every_request_error_has_a_status_of_its_own() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.RequestError) and kind is not errors.RequestError
    ]
    assert {kind: STATUS[kind] for kind in kinds} == {
        errors.InvalidRequestError: 400,
        errors.NotFoundError: 404,
        errors.TooLargeError: 413,
        errors.ForbiddenError: 403,
        errors.ConflictError: 409,
        errors.UnavailableError: 503,
        errors.DeadlineError: 504,
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.EngineError("x"), 500),
        (errors.RegistryError("x"), 500),
        (errors.SampleError("x"), 400),
        (errors.ConfigError("x"), 400),
        (ValueError("x"), 500),
    ],
)
def test_other_errors_are_the_servers_unless_they_are_about_what_was_sent(
    error: Exception, status: int
) -> None:
    assert status_of(error) == status


def test_the_message_and_the_hint_are_the_body() -> None:
    response = error_response(errors.NotFoundError("no such thing", hint="Make it."))
    assert response.status_code == 404
    assert json.loads(response.body) == {"error": "no such thing", "hint": "Make it."}


def test_unavailable_says_when_to_come_back() -> None:
    response = error_response(errors.UnavailableError("busy", retry_after_s=9), {"X-A": "b"})
    assert response.headers["retry-after"] == "9"
    assert response.headers["x-a"] == "b"


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = error_response(KeyError("secret"))
    assert response.status_code == 500
    assert b"secret" not in response.body
    assert "secret" in caplog.text


def test_json_has_null_where_a_number_is_not_finite() -> None:
    value = {"a": [1.0, float("nan")], "b": (float("inf"), "x"), "c": 2}
    assert json.loads(json_response(value).body) == {"a": [1.0, None], "b": [None, "x"], "c": 2}
