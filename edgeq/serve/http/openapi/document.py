"""Routes and the table of operations -> the OpenAPI 3.1 document, and the route that serves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

from edgeq import __version__
from edgeq.serve.http.messages import Answer
from edgeq.serve.http.openapi.operations import COMMAND, JSON, Operation, operations
from edgeq.serve.http.openapi.schemas import TEXT, Schema, ref, schemas
from edgeq.serve.http.router import PLACEHOLDER, Route
from edgeq.serve.rights import Purpose

PATH = "/v2/openapi.json"
WIRE = (400, 408, 413, 503)  # no request at all, too slow, too large, too many connections
# A token is asked for by address and configuration, as `serve.rights` has it; health by nobody.
SECURITY: Mapping[Purpose, list[dict[str, list[str]]]] = {
    Purpose.HEALTH: [],
    Purpose.USE: [{}, {"token": []}],
    Purpose.CHANGE_MODELS: [{}, {"token": []}],
    Purpose.ADMINISTER: [{"token": []}],
}
INFERRED = ("X-Edgeq-Model-Version", "X-Edgeq-Engine")
ABOUT = (
    "A float .tflite model dropped on an edge box, served as a verified INT8 engine: the Open "
    "Inference Protocol with Triton's extensions, edgeq's own calls, and the status page. "
    "A GET also answers HEAD. Every error is JSON: what is wrong, and often a hint. "
    "The token opens what is asked for over TCP; the daemon's Unix socket asks for none."
)


def route_of(routes: Sequence[Route]) -> Route:
    """Return the route that serves the description of these routes and of itself.

    Raises:
        ValueError: a route is not described, or a description has no route.
    """
    made: list[Answer] = []
    route = Route("GET", PATH, lambda _: made[0])
    made.append(Answer(200, (orjson.dumps(describe([*routes, route])),)))
    return route


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the document.

    Raises:
        ValueError: a route is not described, or a description has no route.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route, path, operation in _described(routes):
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgeq", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(routes: Sequence[Route]) -> Iterator[tuple[Route, str, Operation]]:
    """Bring both tables together; what only one of them has is an error."""
    table = operations()
    by_place = {(route.method, route.pattern): route for route in routes}
    commands = by_place.pop(("POST", COMMAND))
    if missing := by_place.keys() - table.keys():
        raise ValueError(f"no operation describes {sorted(missing)}")
    for (method, path), operation in table.items():
        route = by_place.get((method, path)) or commands
        if route is commands and not route.expression().fullmatch(path):
            raise ValueError(f"no route serves {method} {path}")
        yield route, path, operation


def _operation(route: Route, path: str, operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": SECURITY[route.purpose],
        "responses": _responses(route, path, operation),
    }
    if parameters := _parameters(path, operation):
        told["parameters"] = parameters
    if operation.body is not None:
        content = {media: _media(schema) for media, schema in operation.body.items()}
        told["requestBody"] = {"content": content, "required": operation.needs_body}
    return told


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    named = [
        {"name": name, "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}}
        for name in PLACEHOLDER.findall(path)
    ]
    headers = operation.headers or {}
    named += [{"name": name, "in": "header", "schema": each} for name, each in headers.items()]
    query = operation.query or {}
    return named + [
        {"name": name, "in": "query", "schema": each, "required": name in operation.required_query}
        for name, each in query.items()
    ]


def _responses(route: Route, path: str, operation: Operation) -> dict[str, Any]:
    answer = {media: _media(schema) for media, schema in operation.answer.items()}
    done: dict[str, Any] = {"description": HTTPStatus(200).phrase, "content": answer}
    if route.pattern.endswith("/infer"):
        done["headers"] = {name: {"schema": TEXT} for name in INFERRED}
    statuses = {*WIRE, *operation.statuses}
    if route.purpose is not Purpose.HEALTH:
        statuses |= {401, 403}
    if PLACEHOLDER.search(path):
        statuses.add(404)
    return {"200": done, **{str(each): _refusal(each, operation) for each in sorted(statuses)}}


def _refusal(status: int, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if status == HTTPStatus.NO_CONTENT:
        return described
    # What is not ready says so in the words of its answer; all else is an error.
    is_health = status == HTTPStatus.SERVICE_UNAVAILABLE and operation.id.startswith(
        ("serverReady", "modelReady")
    )
    error = ref("Error")
    schema: Schema = {"anyOf": [operation.answer[JSON], error]} if is_health else error
    described["content"] = {JSON: {"schema": schema}}
    return described


def _media(schema: Schema | None) -> dict[str, Any]:
    return {} if schema is None else {"schema": schema}
