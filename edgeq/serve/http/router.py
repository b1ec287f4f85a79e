"""Method and path of a request -> its handler and the names in the path."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeq.errors import MethodNotAllowedError, NotFoundError
from edgeq.serve.http.messages import Handler
from edgeq.serve.rights import Purpose

REMEMBERED_PATHS = 1024
REMEMBERED_LENGTH = 256  # a longer one is nobody's habit, and 1024 of 64 KiB would stay for good
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Route:
    """`{name}` in the pattern stands for one segment; a GET route answers HEAD too.

    `purpose` is what kind of thing is asked for, by which the rights to it are decided.
    """

    method: str
    pattern: str
    handler: Handler
    purpose: Purpose = Purpose.USE

    def expression(self) -> re.Pattern[str]:
        """Return the pattern as a regular expression of whole paths."""
        return re.compile(PLACEHOLDER.sub(r"(?P<\1>[^/]+)", self.pattern))


@dataclass(frozen=True)
class Match:
    """Where a path leads; `routes` by method."""

    routes: Mapping[str, Route]
    parameters: Mapping[str, str]


class Router:
    """Routes in the order of matching."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[re.Pattern[str], dict[str, Route]] = {}
        for route in routes:
            self._routes.setdefault(route.expression(), {})[route.method] = route
        # A client asks for a handful of paths over and over: 0.3 us instead of 5 for a late route.
        self._remembered: dict[str, Match] = {}

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route and the unquoted names in the path.

        Raises:
            NotFoundError: there is no such path.
            MethodNotAllowedError: it takes other methods.
        """
        match = self._remembered.get(path) or self._match(path)
        if match is None:
            where = f"{method} {path}"
            raise NotFoundError(f"{where[:200]!r} is unknown; GET /v2 names what the server can")
        route = match.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = sorted(match.routes)
            where = f"{method} {path}"
            raise MethodNotAllowedError(
                f"{where[:200]!r} is not possible; {', '.join(allowed)} is", allowed
            )
        return route, match.parameters

    def _match(self, path: str) -> Match | None:
        found = next(self._matches(path), None)
        has_room = len(self._remembered) < REMEMBERED_PATHS and len(path) <= REMEMBERED_LENGTH
        if found is not None and has_room:
            self._remembered[path] = found
        return found

    def _matches(self, path: str) -> Iterator[Match]:
        for expression, routes in self._routes.items():
            if match := expression.fullmatch(path):
                names = match.groupdict()
                yield Match(routes, {key: urllib.parse.unquote(names[key]) for key in names})
