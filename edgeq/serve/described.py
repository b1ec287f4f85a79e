"""Server and models -> what the Open Inference Protocol tells of them, in its words."""

from __future__ import annotations

from typing import Any

from edgeq import __version__
from edgeq.serve.data_plane import ModelView
from edgeq.serve.tensors import datatype_of
from edgeq.tflite.runtime import TensorSpec

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
    "system_shared_memory",
)
PLATFORM = "tensorflow_lite"


def server_metadata() -> dict[str, Any]:
    """Return what `GET /v2` tells."""
    return {"name": "edgeq", "version": __version__, "extensions": EXTENSIONS}


def metadata_of(model: ModelView) -> dict[str, Any]:
    """Return what `GET /v2/models/NAME` tells."""
    return {
        "name": model.name,
        "versions": model.versions,
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in model.inputs],
        "outputs": [_tensor(spec) for spec in model.outputs],
    }


def config_of(model: ModelView) -> dict[str, Any]:
    """Return what `GET /v2/models/NAME/config` tells: as much as Triton's own tools read."""
    return {
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


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": spec.shape}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    datatype = datatype_of(spec.dtype)
    name = "STRING" if datatype == "BYTES" else datatype  # the configuration's word for it
    return {"name": spec.name, "data_type": f"TYPE_{name}", "dims": spec.shape}
