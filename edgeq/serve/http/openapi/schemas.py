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
ANY: Schema = {}


def ref(name: str) -> Schema:
    """Point to a schema of the description."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(items: Schema, **more: Any) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": items, **more}


def record(optional: Mapping[str, Schema] | None = None, **required: Schema) -> Schema:
    """Describe an object; others' extensions may add to it."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def nullable(schema: Schema) -> Schema:
    """Allow null, too; in a request that is as if it were not there."""
    return {"anyOf": [schema, {"type": "null"}]}


def schemas() -> dict[str, Schema]:
    """Return them all, by name: what the protocol says, what Triton added, what is edgeq's."""
    return {
        **_protocol(),
        **_infer(),
        **_configuration(),
        **_repository(),
        **_regions(),
        **_status(),
        **_arguments(),
    }


# Of a model: -1 is an extent that the request decides.
_SHAPE = array_of({"type": "integer", "minimum": -1, "maximum": MAX_EXTENT})
_ASKED_SHAPE = array_of({"type": "integer", "minimum": 1, "maximum": MAX_EXTENT}, maxItems=MAX_AXES)
_ASKED_FLAG, _ASKED_COUNT = nullable(FLAG), nullable(COUNT)
_PLACE: Mapping[str, Schema] = {
    "shared_memory_region": nullable(TEXT),
    "shared_memory_offset": _ASKED_COUNT,
    "shared_memory_byte_size": _ASKED_COUNT,
}
_NAME: Schema = {"type": "string", "minLength": 1, "description": "Of a model."}


def _protocol() -> dict[str, Schema]:
    tensors = array_of(record(name=TEXT, datatype=TEXT, shape=_SHAPE))
    return {
        "Error": record(
            {"hint": {"type": "string", "description": "What to do about it."}},
            error={"type": "string", "description": "The thing, what it is, what is expected."},
        ),
        "ServerMetadata": record(name=TEXT, version=TEXT, extensions=array_of(TEXT)),
        "ServerLive": record(live=FLAG),
        "ServerReady": record(ready=FLAG),
        "ModelReady": record(name=TEXT, ready=FLAG),
        "ModelMetadata": record(
            name=TEXT, versions=array_of(TEXT), platform=TEXT, inputs=tensors, outputs=tensors
        ),
    }


def _infer() -> dict[str, Schema]:
    data: Schema = {"type": "array", "description": "Flat in row-major order, or nested as shape."}
    wanted = {"binary_data": _ASKED_FLAG, "classification": _ASKED_COUNT, **_PLACE}
    asked = {
        "timeout": _ASKED_COUNT,
        "priority": _ASKED_COUNT,
        "binary_data_output": _ASKED_FLAG,
    }
    given = record(
        {
            "parameters": nullable(record({"binary_data_size": _ASKED_COUNT, **_PLACE})),
            "data": nullable(data),
        },
        name=TEXT,
        shape=_ASKED_SHAPE,
        datatype={"type": "string", "enum": list(DTYPES)},
    )
    output = record(
        {"parameters": record({"binary_data_size": COUNT, **_PLACE}), "data": data},
        name=TEXT,
        shape=array_of(COUNT),
        datatype={"type": "string", "enum": [*DTYPES, "BYTES"]},
    )
    return {
        "InferInput": given,
        "InferRequestedOutput": record({"parameters": nullable(record(wanted))}, name=TEXT),
        "InferRequest": record(
            {
                "id": nullable(TEXT),
                "parameters": nullable(record(asked)),
                "outputs": nullable(array_of(ref("InferRequestedOutput"))),
            },
            inputs=array_of(ref("InferInput"), minItems=1),
        ),
        "InferOutput": output,
        "InferResponse": record(
            {"id": TEXT}, model_name=TEXT, model_version=TEXT, outputs=array_of(ref("InferOutput"))
        ),
    }


def _configuration() -> dict[str, Schema]:
    duration = record(count=COUNT, ns=COUNT)
    stages = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
              "cache_hit", "cache_miss")  # fmt: skip
    tensors = array_of(record(name=TEXT, data_type=TEXT, dims=_SHAPE))
    row = record(
        {"last_inference": COUNT, "inference_count": COUNT, "execution_count": COUNT},
        name=TEXT,
        version=TEXT,
        inference_stats=record(**dict.fromkeys(stages, duration)),
    )
    return {
        "ModelConfig": record(
            {"backend": TEXT, "parameters": ANYTHING},
            name=TEXT,
            platform=TEXT,
            max_batch_size=COUNT,
            input=tensors,
            output=tensors,
        ),
        "ModelStatistics": record(model_stats=array_of(row)),
    }


def _repository() -> dict[str, Schema]:
    state = {"type": "string", "enum": ["READY", "LOADING", "UNAVAILABLE"]}
    loaded: Schema = {
        "type": ["object", "null"],
        "description": "`config`: JSON as text. `file:1/model.tflite`: the model, base64.",
        "properties": {"config": nullable(TEXT)},
        "patternProperties": {"^file:": TEXT},
        "additionalProperties": False,
    }
    unloaded = nullable(record({"unload_dependents": _ASKED_FLAG}))
    return {
        "RepositoryIndexRequest": record({"ready": _ASKED_FLAG}),
        "RepositoryIndex": array_of(record(name=TEXT, version=TEXT, state=state, reason=TEXT)),
        "RepositoryLoadRequest": record({"parameters": loaded}),
        "RepositoryUnloadRequest": record({"parameters": unloaded}),
        "Empty": {"type": "object", "maxProperties": 0},
    }


def _regions() -> dict[str, Schema]:
    return {
        "RegisterRequest": record(
            {"offset": COUNT},
            key={"type": "string", "description": "Of the POSIX segment, as shm_open takes it."},
            byte_size={"type": "integer", "minimum": 1},
        ),
        "Regions": array_of(record(name=TEXT, key=TEXT, offset=COUNT, byte_size=COUNT)),
    }


def _status() -> dict[str, Schema]:
    live = record(version=TEXT, engine=ref("Engine"), since=TIME, method=TEXT)
    model = record(
        {"reason": nullable(TEXT), "pinned": FLAG, "queue_length": COUNT},
        live=nullable(live),
        state=TEXT,
        progress=ANY,
        previous=nullable(TEXT),
        drift=nullable(ANYTHING),
        samples=ANYTHING,
        latency=nullable(ANYTHING),
    )
    event = record(
        {"fields": ANYTHING}, time=TIME, name=TEXT, version=nullable(COUNT), kind=TEXT, message=TEXT
    )
    refused = record(
        id=TEXT, name=TEXT, stage=TEXT, error=TEXT, hint=TEXT, time=TIME, sha256=TEXT, bytes=COUNT,
        file=TEXT,
    )  # fmt: skip
    return {
        "Engine": {"type": "string", "enum": ["float", "cpu-int8", "cuda-int8"]},
        "Event": event,
        "QuarantineEntry": refused,
        "Status": record(
            edgeq=TEXT,
            now=TIME,
            started=TIME,
            safe_mode=nullable(ANYTHING),
            stuck=array_of(ANYTHING),
            models={"type": "object", "additionalProperties": model},
            events=array_of(ref("Event")),
            quarantine=array_of(ref("QuarantineEntry")),
        ),
        "PageUpdate": record(release=TEXT, now=TIME, title=TEXT, tag=TEXT, states=ANY, body=ANY),
    }


def _arguments() -> dict[str, Schema]:
    """Of the commands; what they answer is for the command line to read."""
    version = {"type": ["integer", "string", "null"], "pattern": "^[0-9]{1,18}$", "minimum": 0}
    about_one = record(
        action={"type": "string", "enum": ["show", "retry", "rm"]},
        id={"type": "string", "minLength": 1},
    )
    return {
        "ModelArgument": record(name=_NAME),
        "RollbackRequest": record({"to": version}, name=_NAME),
        "QuarantineRequest": {"anyOf": [record({"action": {"const": "list"}}), about_one]},
        "SamplesRequest": record(
            {
                "action": {"type": "string", "enum": ["list", "prune", "erase", "show"]},
                "limit": {"type": "integer", "minimum": 1},
            },
            name=_NAME,
        ),
        "Outcome": ANYTHING,
    }
