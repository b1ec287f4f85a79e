"""Triton's model repository over gRPC: index, load, unload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from edgeq.errors import InvalidRequestError
from edgeq.serve.data_plane import DataPlane
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.grpc.request_message import parameters_of
from edgeq.serve.parameters import FILE_PREFIX, flag, load_config
from edgeq.serve.tensors import quoted

InThread = Callable[[Callable[[], None]], Awaitable[None]]


class RepositoryCalls:
    """Loads run in worker threads: they take as long as the model takes."""

    def __init__(self, data_plane: DataPlane, in_thread: InThread, messages: Messages) -> None:
        self._data_plane = data_plane
        self._in_thread = in_thread
        self._messages = messages

    def index(self, request: Message) -> Message:
        """Name every model and its state; only those that serve where `ready` is set."""
        rows = [
            {"name": m.name, "version": m.version, "state": m.state, "reason": m.reason}
            for m in self._data_plane.models()
            if m.state == "READY" or not request.ready
        ]
        return self._messages["RepositoryIndexResponse"](models=rows)

    async def load(self, request: Message) -> Message:
        """Serve a model; the request may bring it."""
        parameters = parameters_of(request.parameters)
        load = partial(
            self._data_plane.load,
            request.model_name,
            config=load_config(parameters),
            files=_files(parameters) or None,
        )
        await self._in_thread(load)
        return self._messages["RepositoryModelLoadResponse"]()

    async def unload(self, request: Message) -> Message:
        """Stop serving a model."""
        parameters = parameters_of(request.parameters)
        unload = partial(
            self._data_plane.unload,
            request.model_name,
            unload_dependents=flag(parameters, "unload_dependents", "unload"),
        )
        await self._in_thread(unload)
        return self._messages["RepositoryModelUnloadResponse"]()


def _files(parameters: Mapping[str, Any]) -> dict[str, bytes]:
    files = {key: value for key, value in parameters.items() if key.startswith(FILE_PREFIX)}
    for key, value in files.items():
        if not isinstance(value, bytes):
            raise InvalidRequestError(
                f"{quoted(key)} is {quoted(value)}; a bytes_param is expected"
            )
    return {key.removeprefix(FILE_PREFIX): value for key, value in files.items()}
