"""What the protocol says about server and models: health, metadata, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.serve.data_plane import DataPlane, ModelView
from edgeq.serve.described import config_of, metadata_of, server_metadata
from edgeq.serve.http.answers import json_answer
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.router import Route
from edgeq.serve.rights import Purpose
from edgeq.serve.statistics import Statistics


class ModelRoutes:
    """The protocol's routes beside infer."""

    def __init__(self, data_plane: DataPlane, statistics: Statistics) -> None:
        self._data_plane = data_plane
        self._statistics = statistics

    def routes(self) -> list[Route]:
        """Return them in the order of matching."""
        leaves = {
            "": self.metadata,
            "/ready": self.model_ready,
            "/config": self.config,
            "/stats": self.statistics,
        }
        health = Purpose.HEALTH
        return [
            Route("GET", "/v2", self.server),
            Route("GET", "/v2/", self.server),
            Route("GET", "/v2/health/live", self.live, health),
            Route("GET", "/v2/health/ready", self.ready, health),
            Route("GET", "/v2/models/stats", self.all_statistics),
            *(
                Route("GET", f"/v2/models/{{name}}{version}{leaf}", handler)
                for leaf, handler in leaves.items()
                for version in ("", "/versions/{version}")
            ),
        ]

    def server(self, _: Request) -> Answer:
        """GET /v2."""
        return json_answer(server_metadata())

    def live(self, _: Request) -> Answer:
        """GET /v2/health/live: whoever can answer is alive."""
        return json_answer({"live": True})

    def ready(self, _: Request) -> Answer:
        """GET /v2/health/ready."""
        is_ready = self._data_plane.is_ready()
        return json_answer({"ready": is_ready}, 200 if is_ready else 503)

    def _model(self, request: Request) -> ModelView:
        parameters = request.parameters
        return self._data_plane.model(parameters["name"], parameters.get("version"))

    def metadata(self, request: Request) -> Answer:
        """GET /v2/models/NAME."""
        return json_answer(metadata_of(self._model(request)))

    def model_ready(self, request: Request) -> Answer:
        """GET /v2/models/NAME/ready."""
        model = self._model(request)
        is_ready = model.state == "READY"
        return json_answer({"name": model.name, "ready": is_ready}, 200 if is_ready else 503)

    def config(self, request: Request) -> Answer:
        """GET /v2/models/NAME/config: what Triton's own tools read of it."""
        return json_answer(config_of(self._model(request)))

    def statistics(self, request: Request) -> Answer:
        """GET /v2/models/NAME/stats."""
        return self._statistics_of([(self._model(request), request.parameters.get("version"))])

    def all_statistics(self, _: Request) -> Answer:
        """GET /v2/models/stats."""
        return self._statistics_of([(model, None) for model in self._data_plane.models()])

    def _statistics_of(self, wanted: Sequence[tuple[ModelView, str | None]]) -> Answer:
        rows: list[dict[str, Any]] = [
            self._statistics.row(model.name, each)
            for model, version in wanted
            for each in ([version] if version else model.versions)
        ]
        return json_answer({"model_stats": rows})
