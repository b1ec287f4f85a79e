"""The description and the router are one: what is served is described, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgeq.daemon.admin import AdminCommands
from edgeq.errors import EdgeqError
from edgeq.serve.http.answers import STATUS
from edgeq.serve.http.messages import Answer
from edgeq.serve.http.openapi.document import PATH, describe, route_of
from edgeq.serve.http.openapi.operations import COMMAND, operations
from edgeq.serve.http.router import Route


@pytest.fixture
def document(running: Any) -> dict[str, Any]:
    described: dict[str, Any] = running.request("GET", PATH).json()
    return described


def routes_of_table() -> list[Route]:
    """Routes as the app makes them, as far as the description asks."""
    served = {key for key in operations() if not key[1].startswith("/edgeq/") or "{" in key[1]}
    served |= {("GET", "/edgeq/page"), ("GET", "/edgeq/status"), ("POST", COMMAND)}
    return [Route(method, path, lambda _: Answer(200)) for method, path in sorted(served)]


def test_it_is_served_where_clients_look_for_it(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document["paths"]["/v2/models/{name}/infer"]["post"]["operationId"] == "infer"
    assert PATH in document["paths"]


def test_a_route_that_nothing_describes_is_an_error() -> None:
    routes = routes_of_table()
    describe(routes)
    with pytest.raises(ValueError, match=r"no operation describes .*'/v2/new'"):
        describe([*routes, Route("GET", "/v2/new", lambda _: Answer(200))])
    with pytest.raises(ValueError, match="no operation describes"):
        describe([*routes, replace(routes[0], method="PUT")])


def test_what_is_described_and_not_served_is_an_error() -> None:
    routes = [route for route in routes_of_table() if route.pattern != "/v2/health/live"]
    with pytest.raises(ValueError, match="no route serves GET /v2/health/live"):
        describe(routes)
    with pytest.raises(ValueError, match=r"no route serves GET /v2/openapi\.json"):
        describe([route for route in routes_of_table() if route.pattern != PATH])
    assert route_of([route for route in routes_of_table() if route.pattern != PATH]).pattern == PATH


def test_every_command_of_the_daemon_is_described(document: dict[str, Any]) -> None:
    # An upload has an address of its own; `samples-add` is what it becomes.
    commands = AdminCommands(*[None] * 5)._commands.keys() - {"samples-add"}  # type: ignore[arg-type]
    described = {
        path.removeprefix("/edgeq/")
        for path, methods in document["paths"].items()
        if path.startswith("/edgeq/") and "post" in methods and "{" not in path
    }
    assert described == commands


def test_names_are_unique_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    ids = [each["operationId"] for path in document["paths"].values() for each in path.values()]
    assert len(set(ids)) == len(ids)
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    used = set(references(document))
    assert used == named


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [each for value in part.values() for each in references(value)]
    return [each for value in part for each in references(value)] if isinstance(part, list) else []


def test_who_needs_a_token_is_the_rights_own_table(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert paths["/v2/health/live"]["get"]["security"] == []
    assert paths["/v2"]["get"]["security"] == [{}, {"token": []}]
    for path, methods in paths.items():
        for method, told in methods.items():
            is_admin = path.startswith("/edgeq/") and method == "post"
            assert (told["security"] == [{"token": []}]) == is_admin, path
            assert ("401" in told["responses"]) == bool(told["security"]), path


def test_every_status_that_is_described_is_one_that_errors_have(document: dict[str, Any]) -> None:
    known = {str(STATUS[kind]) for kind in STATUS if issubclass(kind, EdgeqError)}
    for path in document["paths"].values():
        for told in path.values():
            assert told["responses"].keys() - known <= {"200", "204", "429"}
