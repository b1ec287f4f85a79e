from __future__ import annotations

import inspect
import json
import logging

import pytest

from edgeq import errors
from edgeq.serve.http.answers import STATUS, error_answer, json_answer, status_of
from edgeq.serve.http.messages import Answer


def body(answer: Answer) -> bytes:
    return b"".join(answer.parts)


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
        errors.UnauthenticatedError: 401,
        errors.ForbiddenError: 403,
        errors.MethodNotAllowedError: 405,
        errors.TimedOutError: 408,
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
    response = error_answer(errors.NotFoundError("no such thing", hint="Make it."))
    assert response.status == 404
    assert json.loads(body(response)) == {"error": "no such thing", "hint": "Make it."}


def test_unavailable_says_when_to_come_back() -> None:
    response = error_answer(errors.UnavailableError("busy", retry_after_s=9), {"X-A": "b"})
    assert response.headers["Retry-After"] == "9"
    assert response.headers["X-A"] == "b"


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = error_answer(KeyError("secret"))
    assert response.status == 500
    assert b"secret" not in body(response)
    assert "secret" in caplog.text


def test_json_has_null_where_a_number_is_not_finite() -> None:
    value = {"a": [1.0, float("nan")], "b": (float("inf"), "x"), "c": 2}
    assert json.loads(body(json_answer(value))) == {"a": [1.0, None], "b": [None, "x"], "c": 2}
