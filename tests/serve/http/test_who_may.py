"""Every route by every method, as a stranger who has no token asks for it."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from edgeq.serve.http.messages import Answer
from edgeq.serve.http.openapi.document import PATH
from edgeq.serve.http.router import REMEMBERED_PATHS, Route, Router
from edgeq.serve.rights import Peer, Purpose, Rights
from tests.serve.conftest import TOKEN

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
HEALTH = {"/v2/health/live", "/v2/health/ready"}
NAMES = {"{name}": "echo", "{version}": "3", "{region}": "r", "{file}": "page.css"}


@pytest.fixture
def exposed(start: Any) -> Any:
    return start(rights=Rights(token=TOKEN, is_exposed=True))


def paths(running: Any) -> list[str]:
    """All paths that the description names, with real names in them."""
    answer = running.request("GET", PATH, headers={"Authorization": f"Bearer {TOKEN}"})
    found = []
    for path in answer.json()["paths"]:
        for placeholder, name in NAMES.items():
            path = path.replace(placeholder, name)
        found.append(path)
    return found


def statuses(running: Any, path: str, headers: dict[str, str]) -> set[int]:
    """What every method of a path answers, one connection for all."""
    connection = running.connection()
    try:
        found = set()
        for method in METHODS:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            found.add(response.status)
            assert TOKEN.encode() not in response.read()
        return found
    finally:
        connection.close()


def test_a_stranger_is_told_health_and_nothing_else(exposed: Any) -> None:
    found = paths(exposed)
    assert len(found) > 40
    for path in [*found, "/nowhere", "/v2/models", "/edgeq/none", "//"]:
        assert statuses(exposed, path, {}) == ({200, 401} if path in HEALTH else {401}), path
    assert exposed.admin.calls == exposed.plane.calls == exposed.plane.submitted == []


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer  ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x",
     f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer \xe9", "Bearer null"],
)  # fmt: skip
def test_what_is_almost_the_token_opens_nothing(exposed: Any, authorization: str) -> None:
    for path in ("/v2", "/v2/models/echo/infer", "/edgeq/pin", "/v2/repository/models/echo/load"):
        assert statuses(exposed, path, {"Authorization": authorization}) == {401}, path


def test_the_token_is_compared_in_a_time_that_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared, really = [], hmac.compare_digest

    def compare(given: bytes, token: bytes) -> bool:
        compared.append((given, token))
        return really(given, token)

    monkeypatch.setattr("edgeq.serve.rights.hmac.compare_digest", compare)
    peer, rights = Peer(is_unix=False, is_loopback=False), Rights(token=TOKEN, is_exposed=True)
    for given in ("s", TOKEN[:-1] + "x", "x" * 5000):
        with pytest.raises(Exception, match="no valid token"):
            rights.check(Purpose.USE, peer, f"Bearer {given}")
    assert [token for _, token in compared] == [TOKEN.encode()] * 3


def test_paths_that_are_long_or_many_are_not_remembered() -> None:
    router = Router([Route("GET", "/v2/models/{name}", lambda _: Answer(200))])
    for number in range(2 * REMEMBERED_PATHS):
        router.find("GET", f"/v2/models/{number}{'x' * 400 * (number % 2)}")
    assert len(router._remembered) == REMEMBERED_PATHS
    assert max(map(len, router._remembered)) < 300
