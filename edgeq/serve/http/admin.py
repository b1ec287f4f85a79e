"""The admin wire: /edgeq/status open to all, commands by right."""

from __future__ import annotations

from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.data_plane import Admin
from edgeq.serve.http.answers import json_answer
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.request_body import read_object
from edgeq.serve.http.router import Route
from edgeq.serve.http.threads import Threads
from edgeq.serve.rights import Purpose

REPORT = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
}


class AdminRoutes:
    """Commands run in worker threads: one that waits does not hold up the requests."""

    def __init__(self, admin: Admin, threads: Threads) -> None:
        self._admin = admin
        self._threads = threads

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        return [
            Route("GET", "/edgeq/status", self.status),
            Route("GET", "/edgeq/models/{name}/versions/{version}/report", self.report),
            Route("POST", "/edgeq/samples/{name}", self.add_samples, Purpose.ADMINISTER),
            Route("POST", "/edgeq/{command}", self.call, Purpose.ADMINISTER),
        ]

    async def status(self, _: Request) -> Answer:
        """GET /edgeq/status."""
        return json_answer(await self._threads.run(self._admin.status))

    async def report(self, request: Request) -> Answer:
        """GET /edgeq/models/NAME/versions/VERSION/report, a page that loads nothing."""
        name, version = request.parameters["name"], request.parameters["version"]
        html = await self._threads.run(self._admin.report, name, version)
        return Answer(200, (html,), "text/html; charset=utf-8", REPORT)

    async def call(self, request: Request) -> Answer:
        """POST /edgeq/COMMAND with a JSON object as arguments, or nothing."""
        return await self._run(request.parameters["command"], read_object(request), b"")

    async def add_samples(self, request: Request) -> Answer:
        """POST /edgeq/samples/NAME?filename=FILE with the file as body."""
        filename = request.query_value("filename")
        if not filename:
            raise InvalidRequestError("the upload has no filename; ?filename=x.npz is expected")
        arguments = {"name": request.parameters["name"], "filename": filename}
        return await self._run("samples-add", arguments, bytes(request.body))

    async def _run(self, command: str, arguments: dict[str, Any], body: bytes) -> Answer:
        return json_answer(await self._threads.run(self._admin.call, command, arguments, body))
