"""DataPlane and Admin -> what answers requests: the Open Inference Protocol over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from edgeq.errors import MethodNotAllowedError, NotFoundError
from edgeq.observe.page import Page
from edgeq.serve.calls import Calls
from edgeq.serve.data_plane import Admin
from edgeq.serve.http.admin import AdminRoutes
from edgeq.serve.http.answers import CANCELLED_OR_FAILED, error_answer
from edgeq.serve.http.infer import InferHandler
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.models import ModelRoutes
from edgeq.serve.http.openapi import document
from edgeq.serve.http.page import PageRoutes
from edgeq.serve.http.regions import RegionRoutes
from edgeq.serve.http.repository import RepositoryRoutes
from edgeq.serve.http.router import Route, Router
from edgeq.serve.http.threads import Threads
from edgeq.serve.rights import Purpose, Rights
from edgeq.serve.shared_memory import SharedMemory


@dataclass(frozen=True)
class AppParts:
    """What the app stands on."""

    calls: Calls
    admin: Admin
    rights: Rights
    regions: SharedMemory
    threads: Threads
    page: Page


class App:
    """Routes with every error answered; `handle` never raises."""

    def __init__(self, routes: Sequence[Route], rights: Rights) -> None:
        self._router = Router(routes)
        self._rights = rights

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer a request, at once or later."""
        try:
            route = self._find(request)
            self._check(route.purpose, request)
            outcome = route.handler(request)
        except CANCELLED_OR_FAILED as error:
            return error_answer(error)
        return outcome if isinstance(outcome, Answer) else _guarded(outcome)

    def _find(self, request: Request) -> Route:
        """Who may not use the models is not told what there is either."""
        try:
            route, request.parameters = self._router.find(request.method, request.path)
        except (NotFoundError, MethodNotAllowedError):
            self._check(Purpose.USE, request)
            raise
        return route

    def _check(self, purpose: Purpose, request: Request) -> None:
        if not self._rights.is_open(purpose, request.peer):
            authorization, origin = request.header(b"authorization"), request.header(b"origin")
            self._rights.check(purpose, request.peer, authorization, origin)


async def _guarded(outcome: Awaitable[Answer]) -> Answer:
    try:
        return await outcome
    except CANCELLED_OR_FAILED as error:
        return error_answer(error)


def make_app(parts: AppParts) -> App:
    """Return the app with all routes."""
    calls, data_plane = parts.calls, parts.calls.data_plane
    infer = InferHandler(calls, parts.regions)
    routes = [
        Route("POST", "/v2/models/{name}/infer", infer),
        Route("POST", "/v2/models/{name}/versions/{version}/infer", infer),
        *ModelRoutes(data_plane, calls.statistics).routes(),
        *RepositoryRoutes(data_plane, parts.threads).routes(),
        *RegionRoutes(parts.regions).routes(),
        *PageRoutes(parts.page, parts.admin.status, parts.threads).routes(),
        *AdminRoutes(parts.admin, parts.threads).routes(),
    ]
    return App([*routes, document.route_of(routes)], parts.rights)
