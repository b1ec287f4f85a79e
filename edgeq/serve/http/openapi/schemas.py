"""What requests and answers look like, in JSON Schema 2020-12, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.serve.tensors import DTYPES, MAX_AXES, MAX_EXTENT

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "number", "description": "Seconds since the epoch."}
ANYTHING: Schema = {"type": "object"}


def ref(name: str) -> Schema:
    """Point to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(items: Schema, **more: Any) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": items, **more}


def record(*required: str, **properties: Schema) -> Schema:
    """Describe an object; others' extensions may add to it."""
    return {"type": "object", "properties": properties, "required": list(required)}


def nullable(schema: Schema) -> Schema:
    """Allow null, too; in a request that is as if it were not there."""
    return {"anyOf": [schema, {"type": "null"}]}


def schemas() -> dict[str, Schema]:
    """Return them all, by name: what the protocol says, what Triton added, what is edgeq's."""
    return {**_protocol(), **_infer(), **_extensions(), **_own()}


def _protocol() -> dict[str, Schema]:
    tensor = record("name", "datatype", "shape", name=TEXT, datatype=TEXT, shape=_SHAPE)
    return {
        "Error": record(
            "error",
            error={"type": "string", "description": "The thing, what it is, what is expected."},
            hint={"type": "string", "description": "What to do about it."},
        ),
        "ServerMetadata": record(
            "name", "version", "extensions", name=TEXT, version=TEXT, extensions=array_of(TEXT)
        ),
        "ServerLive": record("live", live=FLAG),
        "ServerReady": record("ready", ready=FLAG),
        "ModelReady": record("name", "ready", name=TEXT, ready=FLAG),
        "TensorMetadata": tensor,
        "ModelMetadata": record(
            "name",
            "versions",
            "platform",
            "inputs",
            "outputs",
            name=TEXT,
            versions=array_of(TEXT),
            platform=TEXT,
            inputs=array_of(ref("TensorMetadata")),
            outputs=array_of(ref("TensorMetadata")),
        ),
    }


# Of a model: -1 is an extent that the request decides.
_SHAPE: Schema = array_of({"type": "integer", "minimum": -1, "maximum": MAX_EXTENT})
_REQUEST_SHAPE: Schema = array_of(
    {"type": "integer", "minimum": 1, "maximum": MAX_EXTENT}, maxItems=MAX_AXES
)
_ASKED_FLAG, _ASKED_COUNT = nullable(FLAG), nullable(COUNT)
_PLACE: Mapping[str, Schema] = {
    "shared_memory_region": nullable(TEXT),
    "shared_memory_offset": _ASKED_COUNT,
    "shared_memory_byte_size": _ASKED_COUNT,
}


def _infer() -> dict[str, Schema]:
    datatype = {"type": "string", "enum": list(DTYPES)}
    wanted = {"binary_data": _ASKED_FLAG, "classification": _ASKED_COUNT, **_PLACE}
    data: Schema = {"type": "array", "description": "Flat in row-major order, or nested as shape."}
    return {
        "InferParameters": record(
            timeout=_ASKED_COUNT, priority=_ASKED_COUNT, binary_data_output=_ASKED_FLAG
        ),
        "InferInput": record(
            "name",
            "shape",
            "datatype",
            name=TEXT,
            shape=_REQUEST_SHAPE,
            datatype=datatype,
            parameters=nullable(record(binary_data_size=_ASKED_COUNT, **_PLACE)),
            data=nullable(data),
        ),
        "InferRequestedOutput": record("name", name=TEXT, parameters=nullable(record(**wanted))),
        "InferRequest": record(
            "inputs",
            id=nullable(TEXT),
            parameters=nullable(ref("InferParameters")),
            inputs=array_of(ref("InferInput"), minItems=1),
            outputs=nullable(array_of(ref("InferRequestedOutput"))),
        ),
        "InferOutput": record(
            "name",
            "shape",
            "datatype",
            name=TEXT,
            shape=array_of(COUNT),
            datatype={"type": "string", "enum": [*DTYPES, "BYTES"]},
            parameters=record(binary_data_size=COUNT, **_PLACE),
            data=data,
        ),
        "InferResponse": record(
            "model_name",
            "model_version",
            "outputs",
            model_name=TEXT,
            model_version=TEXT,
            id=TEXT,
            outputs=array_of(ref("InferOutput")),
        ),
    }


def _extensions() -> dict[str, Schema]:
    duration = record("count", "ns", count=COUNT, ns=COUNT)
    stages = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
              "cache_hit", "cache_miss")  # fmt: skip
    config_tensor = record("name", "data_type", "dims", name=TEXT, data_type=TEXT, dims=_SHAPE)
    return {
        "ModelConfig": record(
            "name",
            "platform",
            "max_batch_size",
            "input",
            "output",
            name=TEXT,
            platform=TEXT,
            backend=TEXT,
            max_batch_size=COUNT,
            input=array_of(config_tensor),
            output=array_of(config_tensor),
            parameters=ANYTHING,
        ),
        "ModelStatistics": record(
            "model_stats",
            model_stats=array_of(
                record(
                    "name",
                    "version",
                    "inference_stats",
                    name=TEXT,
                    version=TEXT,
                    last_inference=COUNT,
                    inference_count=COUNT,
                    execution_count=COUNT,
                    inference_stats=record(*stages, **dict.fromkeys(stages, duration)),
                )
            ),
        ),
        "RepositoryIndexRequest": record(ready=_ASKED_FLAG),
        "RepositoryIndex": array_of(
            record(
                "name", "version", "state", "reason",
                name=TEXT,
                version=TEXT,
                state={"type": "string", "enum": ["READY", "LOADING", "UNAVAILABLE"]},
                reason=TEXT,
            )
        ),
        "RepositoryLoadRequest": record(
            parameters={
                "type": ["object", "null"],
                "description": "`config`: JSON as text. `file:1/model.tflite`: the model, base64.",
                "properties": {"config": nullable(TEXT)},
                "patternProperties": {"^file:": TEXT},
                "additionalProperties": False,
            }
        ),
        "RepositoryUnloadRequest": record(
            parameters=nullable(record(unload_dependents=_ASKED_FLAG))
        ),
        "RegisterRequest": record(
            "key",
            "byte_size",
            key={"type": "string", "description": "Of the POSIX segment, as shm_open takes it."},
            offset=COUNT,
            byte_size={"type": "integer", "minimum": 1},
        ),
        "Regions": array_of(
            record(
                "name", "key", "offset", "byte_size",
                name=TEXT, key=TEXT, offset=COUNT, byte_size=COUNT,
            )
        ),
        "Empty": {"type": "object", "maxProperties": 0},
    }  # fmt: skip


def _own() -> dict[str, Schema]:
    live = record(
        "version", "engine", "since", "method",
        version=TEXT, engine=ref("Engine"), since=TIME, method=TEXT,
    )  # fmt: skip
    model = record(
        "live", "state", "progress", "previous", "drift", "samples", "latency",
        live=nullable(live),
        state=TEXT,
        reason=nullable(TEXT),
        previous=nullable(TEXT),
        drift=nullable(ANYTHING),
        samples=ANYTHING,
        latency=nullable(ANYTHING),
        pinned=FLAG,
        queue_length=COUNT,
    )  # fmt: skip
    return {
        "Engine": {"type": "string", "enum": ["float", "cpu-int8", "cuda-int8"]},
        "Event": record(
            "time", "name", "version", "kind", "message",
            time=TIME, name=TEXT, version=nullable(COUNT), kind=TEXT, message=TEXT, fields=ANYTHING,
        ),
        "QuarantineEntry": record(
            "id", "name", "stage", "error", "hint", "time", "sha256", "bytes", "file",
            id=TEXT, name=TEXT, stage=TEXT, error=TEXT, hint=TEXT, time=TIME, sha256=TEXT,
            bytes=COUNT, file=TEXT,
        ),
        "Status": record(
            "edgeq", "now", "started", "models", "events", "quarantine",
            edgeq=TEXT,
            now=TIME,
            started=TIME,
            models={"type": "object", "additionalProperties": model},
            events=array_of(ref("Event")),
            quarantine=array_of(ref("QuarantineEntry")),
        ),
        "PageUpdate": record(
            "release", "now", "title", "states", "body", "tag",
            release=TEXT, now=TIME, title=TEXT, tag=TEXT,
        ),
        "ModelArgument": record("name", name=_NAME),
        "RollbackRequest": record(
            "name", name=_NAME, to={"type": ["integer", "string", "null"], "pattern": "^[0-9]+$"}
        ),
        "QuarantineRequest": {
            "anyOf": [
                record(action={"const": "list"}),
                record(
                    "action",
                    "id",
                    action={"type": "string", "enum": ["show", "retry", "rm"]},
                    id={"type": "string", "minLength": 1},
                ),
            ]
        },
        "SamplesRequest": record(
            "name",
            name=_NAME,
            action={"type": "string", "enum": ["list", "prune", "show"]},
            limit={"type": "integer", "minimum": 1},
        ),
        "Outcome": ANYTHING,
    }  # fmt: skip


_NAME: Schema = {"type": "string", "minLength": 1, "description": "Of a model."}
