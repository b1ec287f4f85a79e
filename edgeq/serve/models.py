"""What the protocol says about server and models: health, metadata, statistics, repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgeq import __version__
from edgeq.errors import InvalidRequestError, NotFoundError
from edgeq.serve.answers import guarded, json_response
from edgeq.serve.content import read_body
from edgeq.serve.data_plane import DataPlane, ModelView
from edgeq.serve.infer import InferOptions
from edgeq.serve.protocol import load_object
from edgeq.serve.rights import Rights
from edgeq.serve.statistics import Statistics
from edgeq.serve.tensors import datatype_of
from edgeq.tflite.runtime import TensorSpec

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
PLATFORM = "tensorflow_lite"


class ModelRoutes:
    """The protocol's routes beside infer."""

    def __init__(
        self,
        data_plane: DataPlane,
        options: InferOptions,
        statistics: Statistics,
        rights: Rights,
    ) -> None:
        self._data_plane = data_plane
        self._options = options
        self._statistics = statistics
        self._rights = rights

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        get = {
            "/v2": self.server,
            "/v2/": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/stats": self.all_statistics,
            **{
                f"/v2/models/{{name}}{version}{leaf}": endpoint
                for leaf, endpoint in (
                    ("", self.metadata),
                    ("/ready", self.model_ready),
                    ("/config", self.config),
                    ("/stats", self.statistics),
                )
                for version in ("", "/versions/{version}")
            },
        }
        post = {
            "/v2/repository/index": self.index,
            "/v2/repository/models/{name}/load": self.load,
            "/v2/repository/models/{name}/unload": self.unload,
        }
        return [
            *(Route(path, guarded(endpoint), methods=["GET"]) for path, endpoint in get.items()),
            *(Route(path, guarded(endpoint), methods=["POST"]) for path, endpoint in post.items()),
        ]

    async def server(self, _: Request) -> Response:
        """GET /v2."""
        return json_response({"name": "edgeq", "version": __version__, "extensions": EXTENSIONS})

    async def live(self, _: Request) -> Response:
        """GET /v2/health/live: whoever can answer is alive."""
        return json_response({"live": True})

    async def ready(self, _: Request) -> Response:
        """GET /v2/health/ready."""
        is_ready = self._data_plane.is_ready()
        return json_response({"ready": is_ready}, 200 if is_ready else 503)

    def _model(self, request: Request) -> ModelView:
        parameters = request.path_params
        return self._data_plane.model(parameters["name"], parameters.get("version"))

    async def metadata(self, request: Request) -> Response:
        """GET /v2/models/NAME."""
        model = self._model(request)
        return json_response(
            {
                "name": model.name,
                "versions": model.versions,
                "platform": PLATFORM,
                "inputs": [_tensor(spec) for spec in model.inputs],
                "outputs": [_tensor(spec) for spec in model.outputs],
            }
        )

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/NAME/ready."""
        model = self._model(request)
        is_ready = model.state == "READY"
        return json_response({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)

    async def config(self, request: Request) -> Response:
        """GET /v2/models/NAME/config: what Triton's own tools read of it."""
        model = self._model(request)
        return json_response(
            {
                "name": model.name,
                "platform": PLATFORM,
                "backend": "edgeq",
                "version_policy": {"latest": {"num_versions": 1}},
                "max_batch_size": 0,
                "input": [_config_tensor(spec) for spec in model.inputs],
                "output": [_config_tensor(spec) for spec in model.outputs],
                "instance_group": [],
                "parameters": {"engine": {"string_value": model.engine}},
            }
        )

    async def statistics(self, request: Request) -> Response:
        """GET /v2/models/NAME/stats."""
        model, version = self._model(request), request.path_params.get("version")
        return self._statistics_of([(model, version)])

    async def all_statistics(self, _: Request) -> Response:
        """GET /v2/models/stats."""
        return self._statistics_of([(model, None) for model in self._data_plane.models()])

    def _statistics_of(self, wanted: Sequence[tuple[ModelView, str | None]]) -> Response:
        rows = [
            self._statistics.row(model.name, each)
            for model, version in wanted
            for each in ([version] if version else model.versions)
        ]
        return json_response({"model_stats": rows})

    async def index(self, request: Request) -> Response:
        """POST /v2/repository/index; the body may be empty."""
        only_ready = (await self._object(request)).get("ready") is True
        rows = [
            {"name": m.name, "version": m.version, "state": m.state, "reason": m.reason}
            for m in self._data_plane.models()
            if m.state == "READY" or not only_ready
        ]
        return json_response(rows)

    async def load(self, request: Request) -> Response:
        """POST /v2/repository/models/NAME/load; the model comes from the drop folder only."""
        self._rights.check_repository(request.scope)
        parameters = _parameters(await self._object(request))
        if parameters:
            raise InvalidRequestError(
                f"load has parameter {min(parameters)!r:.60}; a load takes none here",
                hint="Put the model file and its sidecar into the drop folder.",
            )
        await run_in_threadpool(self._data_plane.load, request.path_params["name"])
        return json_response({})

    async def unload(self, request: Request) -> Response:
        """POST /v2/repository/models/NAME/unload."""
        self._rights.check_repository(request.scope)
        _parameters(await self._object(request))
        await run_in_threadpool(self._data_plane.unload, request.path_params["name"])
        return json_response({})

    async def _object(self, request: Request) -> dict[str, Any]:
        body = await read_body(
            dict(request.scope["headers"]),
            request.receive,
            max_bytes=self._options.max_body_bytes,
            timeout_s=self._options.timeout_s,
        )
        return load_object(body) if body.strip() else {}


class SharedMemoryRoutes:
    """Shared memory is not built yet: nothing is registered, and nothing can be."""

    def routes(self) -> list[Route]:
        """Return the routes of system and CUDA shared memory."""
        return [
            Route(f"/v2/{kind}sharedmemory{leaf}", guarded(endpoint), methods=[method])
            for kind in ("system", "cuda")
            for leaf, method, endpoint in (
                ("/status", "GET", self.status),
                ("/region/{region}/status", "GET", self.region),
                ("/region/{region}/register", "POST", self.register),
                ("/region/{region}/unregister", "POST", self.region),
                ("/unregister", "POST", self.unregister_all),
            )
        ]

    async def status(self, _: Request) -> Response:
        """List no regions."""
        return json_response([])

    async def unregister_all(self, _: Request) -> Response:
        """Do nothing, there being no region."""
        return json_response({})

    async def region(self, request: Request) -> Response:
        """Refuse a name that cannot be registered."""
        region = request.path_params["region"]
        raise NotFoundError(f"shared memory region {region!r:.60} is unknown; none is registered")

    async def register(self, request: Request) -> Response:
        """Refuse."""
        region = request.path_params["region"]
        raise InvalidRequestError(
            f"shared memory region {region!r:.60} cannot be registered: not built yet",
            hint="Send the tensor as binary data.",
        )


def _parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError("parameters is not a JSON object")
    return parameters


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": spec.shape}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = datatype_of(spec.dtype)
    name = "STRING" if datatype == "BYTES" else datatype  # the configuration's word for it
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": spec.shape}
