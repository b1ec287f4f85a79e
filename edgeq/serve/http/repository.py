"""Triton's model repository over HTTP: index, load, unload."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.data_plane import DataPlane
from edgeq.serve.http.answers import json_answer
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.request_body import read_object
from edgeq.serve.http.router import Route
from edgeq.serve.http.threads import Threads
from edgeq.serve.parameters import FILE_PREFIX, flag, load_config
from edgeq.serve.rights import Purpose
from edgeq.serve.tensors import quoted


class RepositoryRoutes:
    """Loads run in worker threads: they take as long as the model takes."""

    def __init__(self, data_plane: DataPlane, threads: Threads) -> None:
        self._data_plane = data_plane
        self._threads = threads

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        model = "/v2/repository/models/{name}"
        return [
            Route("POST", "/v2/repository/index", self.index),
            Route("POST", f"{model}/load", self.load, Purpose.CHANGE_MODELS),
            Route("POST", f"{model}/unload", self.unload, Purpose.CHANGE_MODELS),
        ]

    def index(self, request: Request) -> Answer:
        """POST /v2/repository/index; the body may be empty."""
        only_ready = flag(read_object(request), "ready", "the index")
        rows = [
            {"name": m.name, "version": m.version, "state": m.state, "reason": m.reason}
            for m in self._data_plane.models()
            if m.state == "READY" or not only_ready
        ]
        return json_answer(rows)

    async def load(self, request: Request) -> Answer:
        """POST /v2/repository/models/NAME/load; the body may bring the model."""
        parameters = _parameters(read_object(request))
        load = partial(
            self._data_plane.load,
            request.parameters["name"],
            config=load_config(parameters),
            files=_files(parameters) or None,
        )
        await self._threads.run(load)
        return json_answer({})

    async def unload(self, request: Request) -> Answer:
        """POST /v2/repository/models/NAME/unload."""
        parameters = _parameters(read_object(request))
        unload = partial(
            self._data_plane.unload,
            request.parameters["name"],
            unload_dependents=flag(parameters, "unload_dependents", "unload"),
        )
        await self._threads.run(unload)
        return json_answer({})


def _parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"parameters is {quoted(parameters)}; a JSON object is expected")
    return parameters


def _files(parameters: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        key.removeprefix(FILE_PREFIX): _decoded(key, value)
        for key, value in parameters.items()
        if key.startswith(FILE_PREFIX)
    }


def _decoded(key: str, value: object) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except ValueError as error:  # binascii's, and what is not ASCII
        raise InvalidRequestError(f"{quoted(key)} is not base64: {error}") from error
    raise InvalidRequestError(f"{quoted(key)} is {quoted(value)}; base64 text is expected")
