from __future__ import annotations

from typing import Any

import pytest

from edgeq.errors import ForbiddenError
from edgeq.serve.rights import IS_UNIX_SOCKET, Rights


def scope(authorization: bytes | None = None, **state: Any) -> dict[str, Any]:
    headers = [] if authorization is None else [(b"authorization", authorization)]
    return {"type": "http", "headers": headers, "state": state}


def test_the_unix_socket_needs_no_token() -> None:
    for token in (None, "t"):
        Rights(token).check_admin(scope(**{IS_UNIX_SOCKET: True}))


@pytest.mark.parametrize("authorization", [b"Bearer t", b"bearer t", b"Bearer  t "])
def test_the_token_opens_tcp(authorization: bytes) -> None:
    Rights("t").check_admin(scope(authorization))


@pytest.mark.parametrize(
    "authorization", [None, b"", b"t", b"Bearer", b"Bearer ", b"Bearer T", b"Basic t", b"\xff \xff"]
)
def test_anything_else_is_refused(authorization: bytes | None) -> None:
    with pytest.raises(ForbiddenError, match="no valid token"):
        Rights("t").check_admin(scope(authorization))


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_no_header_opens_tcp(token: str | None) -> None:
    for authorization in (None, b"Bearer ", b"Bearer None"):
        with pytest.raises(ForbiddenError, match="no token is configured"):
            Rights(token).check_admin(scope(authorization))


def test_a_connection_that_nobody_vouched_for_is_not_the_unix_socket() -> None:
    for unsure in ({"headers": []}, scope(), scope(**{IS_UNIX_SOCKET: "yes"})):
        with pytest.raises(ForbiddenError):
            Rights(None).check_admin(unsure)


def test_load_and_unload_are_open_until_a_token_is_configured() -> None:
    Rights(None).check_repository(scope())
    with pytest.raises(ForbiddenError):
        Rights("t").check_repository(scope())
    Rights("t").check_repository(scope(b"Bearer t"))
