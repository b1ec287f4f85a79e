"""Triton's shared memory extensions over HTTP: POSIX regions; CUDA's are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgeq.errors import InvalidRequestError, NotFoundError
from edgeq.serve.http.answers import json_answer
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.request_body import read_object
from edgeq.serve.http.router import Route
from edgeq.serve.rights import Purpose
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.tensors import quoted

SYSTEM = "/v2/systemsharedmemory"
CUDA = "/v2/cudasharedmemory"


class RegionRoutes:
    """Registering takes no time worth a thread: an open and a look at the file."""

    def __init__(self, regions: SharedMemory) -> None:
        self._regions = regions

    def routes(self) -> list[Route]:
        """Return those of system and CUDA shared memory."""
        region, change = "/region/{region}", Purpose.CHANGE_MODELS
        return [
            Route("GET", f"{SYSTEM}/status", self.status),
            Route("GET", f"{SYSTEM}{region}/status", self.region_status),
            Route("POST", f"{SYSTEM}{region}/register", self.register, change),
            Route("POST", f"{SYSTEM}{region}/unregister", self.unregister, change),
            Route("POST", f"{SYSTEM}/unregister", self.unregister_all, change),
            Route("GET", f"{CUDA}/status", _no_cuda_regions),
            Route("GET", f"{CUDA}{region}/status", _unknown_cuda_region),
            Route("POST", f"{CUDA}{region}/register", _refuse_cuda_region, change),
            Route("POST", f"{CUDA}{region}/unregister", _nothing_to_unregister, change),
            Route("POST", f"{CUDA}/unregister", _nothing_to_unregister, change),
        ]

    def status(self, _: Request) -> Answer:
        """GET /v2/systemsharedmemory/status."""
        return json_answer([asdict(region) for region in self._regions.status()])

    def region_status(self, request: Request) -> Answer:
        """GET /v2/systemsharedmemory/region/NAME/status."""
        found = self._regions.status(request.parameters["region"])
        return json_answer([asdict(region) for region in found])

    def register(self, request: Request) -> Answer:
        """POST /v2/systemsharedmemory/region/NAME/register."""
        name, content = request.parameters["region"], read_object(request)
        self._regions.register(
            name,
            _key(content, name),
            _bytes(content, "offset", name, default=0),
            _bytes(content, "byte_size", name),
        )
        return json_answer({})

    def unregister(self, request: Request) -> Answer:
        """POST /v2/systemsharedmemory/region/NAME/unregister."""
        self._regions.unregister(request.parameters["region"])
        return json_answer({})

    def unregister_all(self, _: Request) -> Answer:
        """POST /v2/systemsharedmemory/unregister."""
        self._regions.unregister_all()
        return json_answer({})


def _key(content: Mapping[str, Any], name: str) -> str:
    key = content.get("key")
    if not isinstance(key, str):
        raise InvalidRequestError(
            f"shared memory region {quoted(name)} has key {quoted(key)}; a string is expected"
        )
    return key


def _bytes(content: Mapping[str, Any], field: str, name: str, *, default: int | None = None) -> int:
    value = content.get(field, default)
    if type(value) is not int:
        raise InvalidRequestError(
            f"shared memory region {quoted(name)} has {field} {quoted(value)}; "
            "a number of bytes is expected"
        )
    return value


def _no_cuda_regions(_: Request) -> Answer:
    return json_answer([])


def _nothing_to_unregister(_: Request) -> Answer:
    return json_answer({})


def _unknown_cuda_region(request: Request) -> Answer:
    region = quoted(request.parameters["region"])
    raise NotFoundError(f"CUDA shared memory region {region} is unknown; there are none")


def _refuse_cuda_region(request: Request) -> Answer:
    region = quoted(request.parameters["region"])
    raise InvalidRequestError(
        f"CUDA shared memory region {region} cannot be registered: a Jetson's driver has no CUDA "
        "IPC, and its GPU shares the box's memory anyway",
        hint="Register a system shared memory region.",
    )
