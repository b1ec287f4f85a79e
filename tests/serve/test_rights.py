from __future__ import annotations

import pytest

from edgeq.errors import ForbiddenError, UnauthenticatedError
from edgeq.serve.rights import Peer, Purpose, Rights

UNIX = Peer(is_unix=True, is_loopback=False)
LOOPBACK = Peer(is_unix=False, is_loopback=True)
STRANGER = Peer(is_unix=False, is_loopback=False)
CERTIFIED = Peer(is_unix=False, is_loopback=False, has_client_certificate=True)

HEALTH, USE, CHANGE, ADMIN = Purpose.HEALTH, Purpose.USE, Purpose.CHANGE_MODELS, Purpose.ADMINISTER


def answer(rights: Rights, purpose: Purpose, peer: Peer, authorization: str = "") -> int:
    """200, or what the error becomes over HTTP."""
    try:
        rights.check(purpose, peer, authorization)
    except UnauthenticatedError:
        return 401
    except ForbiddenError:
        return 403
    return 200


# ---- the table of the module, row by row: (no token configured, token configured and not sent)


@pytest.mark.parametrize(
    ("purpose", "peer", "without", "unsent"),
    [
        *[(purpose, UNIX, 200, 200) for purpose in Purpose],
        *[(HEALTH, peer, 200, 200) for peer in (LOOPBACK, STRANGER, CERTIFIED)],
        (USE, LOOPBACK, 200, 200),
        (USE, CERTIFIED, 200, 200),
        (USE, STRANGER, 403, 401),
        (CHANGE, LOOPBACK, 200, 401),
        (CHANGE, CERTIFIED, 200, 401),
        (CHANGE, STRANGER, 403, 401),
        *[(ADMIN, peer, 403, 401) for peer in (LOOPBACK, CERTIFIED, STRANGER)],
    ],
)
def test_the_table_holds(purpose: Purpose, peer: Peer, without: int, unsent: int) -> None:
    assert answer(Rights(), purpose, peer) == without
    assert answer(Rights("t"), purpose, peer) == unsent
    assert answer(Rights("t"), purpose, peer, "Bearer t") == 200


@pytest.mark.parametrize("purpose", [CHANGE, ADMIN])
def test_a_web_page_over_a_forwarded_unix_socket_changes_nothing(purpose: Purpose) -> None:
    """`ssh -L 8080:/var/lib/edgeq/edgeq.sock box` lets every page of that browser try."""
    with pytest.raises(ForbiddenError, match="from a web page is refused"):
        Rights().check(purpose, UNIX, "", "https://elsewhere.example")
    with pytest.raises(UnauthenticatedError):
        Rights("t").check(purpose, UNIX, "", "https://elsewhere.example")
    Rights("t").check(purpose, UNIX, "Bearer t", "https://elsewhere.example")
    Rights().check(USE, UNIX, "", "https://elsewhere.example")


@pytest.mark.parametrize(("purpose", "without", "unsent"), [(USE, 200, 200), (CHANGE, 403, 401)])
def test_anonymous_opens_the_models_and_nothing_that_changes_them(
    purpose: Purpose, without: int, unsent: int
) -> None:
    assert answer(Rights(is_anonymous=True), purpose, STRANGER) == without
    assert answer(Rights("t", is_anonymous=True), purpose, STRANGER) == unsent


def test_on_an_exposed_server_a_connection_within_the_box_is_a_stranger_s() -> None:
    """A proxy beside the daemon brings everybody's requests from 127.0.0.1."""
    for purpose in (USE, CHANGE):
        assert answer(Rights("t", is_exposed=True), purpose, LOOPBACK) == 401
        assert answer(Rights(is_exposed=True), purpose, LOOPBACK) == 403
    assert answer(Rights("t", is_exposed=True), USE, UNIX) == 200


def test_a_web_page_on_the_box_cannot_load_or_unload_without_the_token() -> None:
    """A browser sends a page's POST to loopback unasked; it names the page in Origin."""
    page = "http://elsewhere.example"
    with pytest.raises(ForbiddenError):
        Rights().check(CHANGE, LOOPBACK, "", page)
    Rights("t").check(CHANGE, LOOPBACK, "Bearer t", page)
    Rights().check(USE, LOOPBACK, "", page)


# ---- the token


@pytest.mark.parametrize("authorization", ["Bearer t", "bearer t", "Bearer  t "])
def test_the_token_opens_tcp(authorization: str) -> None:
    for purpose in Purpose:
        assert answer(Rights("t"), purpose, STRANGER, authorization) == 200


@pytest.mark.parametrize(
    "authorization", ["", "t", "Bearer", "Bearer ", "Bearer T", "Basic t", "\xff \xff", "Bearer é"]
)
def test_anything_else_is_refused_with_a_word_on_what_is_expected(authorization: str) -> None:
    with pytest.raises(UnauthenticatedError, match="Authorization: Bearer TOKEN") as caught:
        Rights("t").check(USE, STRANGER, authorization)
    assert "server.auth" in caught.value.hint


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_no_header_opens_tcp(token: str | None) -> None:
    for authorization in ("", "Bearer ", "Bearer None"):
        with pytest.raises(ForbiddenError, match="no token is configured"):
            Rights(token).check(ADMIN, LOOPBACK, authorization)
