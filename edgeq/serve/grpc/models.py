"""What the protocol says about server and models: health, metadata, configuration, statistics."""

from __future__ import annotations

from edgeq.errors import NotFoundError
from edgeq.serve.data_plane import DataPlane, ModelView
from edgeq.serve.described import config_of, metadata_of, server_metadata
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.statistics import Statistics


class ModelCalls:
    """Each method answers the call of its name: a request message in, a response message out."""

    def __init__(self, data_plane: DataPlane, statistics: Statistics, messages: Messages) -> None:
        self._data_plane = data_plane
        self._statistics = statistics
        self._messages = messages

    def server_live(self, _: Message) -> Message:
        """Whoever can answer is alive."""
        return self._messages["ServerLiveResponse"](live=True)

    def server_ready(self, _: Message) -> Message:
        """Say whether the daemon takes traffic."""
        return self._messages["ServerReadyResponse"](ready=self._data_plane.is_ready())

    def server_metadata(self, _: Message) -> Message:
        """Name the server and what it can."""
        return self._messages["ServerMetadataResponse"](**server_metadata())

    def model_ready(self, request: Message) -> Message:
        """Say whether a model is served; one that nobody knows is not, as with Triton."""
        try:
            is_ready = self._model(request).state == "READY"
        except NotFoundError:
            is_ready = False
        return self._messages["ModelReadyResponse"](ready=is_ready)

    def model_metadata(self, request: Message) -> Message:
        """Name a model's inputs and outputs."""
        return self._messages["ModelMetadataResponse"](**metadata_of(self._model(request)))

    def model_config(self, request: Message) -> Message:
        """Tell as much of a model's configuration as Triton's own tools read."""
        config = config_of(self._model(request))
        known = self._messages["ModelConfig"].DESCRIPTOR.fields_by_name
        told = {name: value for name, value in config.items() if name in known}
        parameter = self._messages["ModelParameter"]
        told["parameters"] = {
            name: parameter(**value) for name, value in config["parameters"].items()
        }
        return self._messages["ModelConfigResponse"](config=told)

    def model_statistics(self, request: Message) -> Message:
        """Tell the counters of one model, or of all."""
        if request.name:
            model = self._model(request)
            versions = [request.version] if request.version else model.versions
            wanted = [(model.name, version) for version in versions]
        else:
            models = self._data_plane.models()
            wanted = [(model.name, version) for model in models for version in model.versions]
        rows = [self._statistics.row(name, version) for name, version in wanted]
        return self._messages["ModelStatisticsResponse"](model_stats=rows)

    def _model(self, request: Message) -> ModelView:
        return self._data_plane.model(request.name, request.version or None)
