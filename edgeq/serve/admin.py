"""The status page and the admin wire: /edgeq/status open to all, commands by right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from edgeq.errors import InvalidRequestError
from edgeq.serve.answers import guarded, json_response
from edgeq.serve.content import read_body
from edgeq.serve.data_plane import Admin
from edgeq.serve.infer import InferOptions
from edgeq.serve.protocol import load_object
from edgeq.serve.rights import Rights


class AdminRoutes:
    """Commands run in worker threads: one that waits does not hold up the requests."""

    def __init__(
        self, admin: Admin, options: InferOptions, rights: Rights, page: Callable[[], str]
    ) -> None:
        self._admin = admin
        self._options = options
        self._rights = rights
        self._page = page

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        return [
            Route("/", guarded(self.page), methods=["GET"]),
            Route("/edgeq/status", guarded(self.status), methods=["GET"]),
            Route("/edgeq/samples/{name}", guarded(self.add_samples), methods=["POST"]),
            Route("/edgeq/{command}", guarded(self.call), methods=["POST"]),
        ]

    async def page(self, _: Request) -> Response:
        """GET /."""
        return HTMLResponse(await run_in_threadpool(self._page))

    async def status(self, _: Request) -> Response:
        """GET /edgeq/status."""
        return json_response(await run_in_threadpool(self._admin.status))

    async def call(self, request: Request) -> Response:
        """POST /edgeq/COMMAND with a JSON object as arguments, or nothing."""
        self._rights.check_admin(request.scope)
        body = await self._body(request)
        arguments = load_object(body) if body.strip() else {}
        return await self._run(request.path_params["command"], arguments, b"")

    async def add_samples(self, request: Request) -> Response:
        """POST /edgeq/samples/NAME?filename=FILE with the file as body."""
        self._rights.check_admin(request.scope)
        filename = request.query_params.get("filename", "")
        if not filename:
            raise InvalidRequestError("the upload has no filename; ?filename=x.npz is expected")
        arguments = {"name": request.path_params["name"], "filename": filename}
        return await self._run("samples-add", arguments, await self._body(request))

    async def _run(self, command: str, arguments: Mapping[str, Any], body: bytes) -> Response:
        return json_response(await run_in_threadpool(self._admin.call, command, arguments, body))

    async def _body(self, request: Request) -> bytes:
        return await read_body(
            dict(request.scope["headers"]),
            request.receive,
            max_bytes=self._options.max_body_bytes,
            timeout_s=self._options.timeout_s,
        )
