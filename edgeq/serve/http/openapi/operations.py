"""What the description says of each route beyond what the router knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.serve.http.openapi.schemas import Schema, ref

JSON = "application/json"
BINARY = "application/octet-stream"
HTML = "text/html"
COMMAND = "/edgeq/{command}"  # the router's; here each command stands for itself


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Args:
        id: unique; clients that are generated name their functions by it.
        tag: the chapter it stands in.
        summary: one sentence.
        answer: of the 200, by media type; without a schema any content.
        body: what is taken, by media type; none where empty.
        needs_body: whether it cannot be left out.
        headers: of the request, by name.
        query: parameters after the `?`.
        required_query: those of them that cannot be left out.
        statuses: beyond 200, those of rights, of names in the path, and of the wire.
    """

    id: str
    tag: str
    summary: str
    answer: Mapping[str, Schema | None]
    body: Mapping[str, Schema | None] | None = None
    needs_body: bool = False
    headers: Mapping[str, Schema] | None = None
    query: Mapping[str, Schema] | None = None
    required_query: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()


Table = dict[tuple[str, str], Operation]


def operations() -> Table:
    """Return them by method and path."""
    return {**_server(), **_models(), **_repository(), **_regions(), **_page(), **_commands()}


def _json(name: str) -> Mapping[str, Schema | None]:
    return {JSON: ref(name)}


def _server() -> Table:
    protocol = "Open Inference Protocol"
    metadata = Operation(
        "serverMetadata", protocol, "Name the server and what it can.", _json("ServerMetadata")
    )
    return {
        ("GET", "/v2"): metadata,
        ("GET", "/v2/"): Operation(
            "serverMetadataSlash", protocol, metadata.summary, metadata.answer
        ),
        ("GET", "/v2/health/live"): Operation(
            "serverLive", protocol, "Whoever can answer is alive.", _json("ServerLive")
        ),
        ("GET", "/v2/health/ready"): Operation(
            "serverReady", protocol, "Say whether the daemon takes traffic; if not: 503.",
            _json("ServerReady"), statuses=(503,),
        ),
        ("GET", "/v2/openapi.json"): Operation(
            "description", "Description", "This description.", {JSON: {"type": "object"}}
        ),
    }  # fmt: skip


def _models() -> Table:
    """Each with and without a version in its path."""
    table: Table = {}
    for version, suffix in (("", ""), ("/versions/{version}", "Version")):
        model = f"/v2/models/{{name}}{version}"
        table |= {
            ("POST", f"{model}/infer"): _infer(f"infer{suffix}"),
            ("GET", model): Operation(
                f"modelMetadata{suffix}", "Open Inference Protocol",
                "Name a model's inputs and outputs.", _json("ModelMetadata"),
            ),
            ("GET", f"{model}/ready"): Operation(
                f"modelReady{suffix}", "Open Inference Protocol",
                "Say whether a model is served; if not: 503.", _json("ModelReady"),
                statuses=(503,),
            ),
            ("GET", f"{model}/config"): Operation(
                f"modelConfig{suffix}", "Model configuration",
                "Tell as much of a model's configuration as Triton's own tools read.",
                _json("ModelConfig"),
            ),
            ("GET", f"{model}/stats"): Operation(
                f"modelStatistics{suffix}", "Statistics", "Tell the counters of one model.",
                _json("ModelStatistics"),
            ),
        }  # fmt: skip
    table["GET", "/v2/models/stats"] = Operation(
        "statistics", "Statistics", "Tell the counters of all models.", _json("ModelStatistics")
    )
    return table


def _infer(name: str) -> Operation:
    length: Schema = {"type": "integer", "minimum": 0}
    return Operation(
        name,
        "Open Inference Protocol",
        "Run a model. Tensors are JSON, bytes behind the JSON (binary_data_size), in shared "
        "memory, or, for a model with one input, the whole body (header length 0).",
        {JSON: ref("InferResponse"), BINARY: None},
        body={JSON: ref("InferRequest"), BINARY: None},
        needs_body=True,
        headers={"Inference-Header-Content-Length": length},
        statuses=(413, 429, 500, 503, 504),
    )


def _repository() -> Table:
    tag, model = "Model repository", "/v2/repository/models/{name}"
    return {
        ("POST", "/v2/repository/index"): Operation(
            "repositoryIndex", tag, "Name every model and its state.", _json("RepositoryIndex"),
            body=_json("RepositoryIndexRequest"),
        ),
        ("POST", f"{model}/load"): Operation(
            "repositoryLoad", tag, "Serve a model; the request may bring it.", _json("Empty"),
            body=_json("RepositoryLoadRequest"), statuses=(409, 413, 500, 503),
        ),
        ("POST", f"{model}/unload"): Operation(
            "repositoryUnload", tag, "Stop serving a model.", _json("Empty"),
            body=_json("RepositoryUnloadRequest"), statuses=(409, 500, 503),
        ),
    }  # fmt: skip


def _regions() -> Table:
    tag, system, cuda = "Shared memory", "/v2/systemsharedmemory", "/v2/cudasharedmemory"
    told, done = _json("Regions"), _json("Empty")
    return {
        ("GET", f"{system}/status"): Operation("systemRegions", tag, "Tell all regions.", told),
        ("GET", f"{system}/region/{{region}}/status"): Operation(
            "systemRegion", tag, "Tell one region.", told
        ),
        ("POST", f"{system}/region/{{region}}/register"): Operation(
            "registerSystemRegion", tag, "Name a part of a POSIX segment.", done,
            body=_json("RegisterRequest"), needs_body=True, statuses=(409,),
        ),
        ("POST", f"{system}/region/{{region}}/unregister"): Operation(
            "unregisterSystemRegion", tag, "Forget one region.", done
        ),
        ("POST", f"{system}/unregister"): Operation(
            "unregisterSystemRegions", tag, "Forget all regions.", done
        ),
        ("GET", f"{cuda}/status"): Operation(
            "cudaRegions", tag, "There are none: a Jetson's driver has no CUDA IPC.", told
        ),
        ("GET", f"{cuda}/region/{{region}}/status"): Operation(
            "cudaRegion", tag, "Always 404.", told
        ),
        ("POST", f"{cuda}/region/{{region}}/register"): Operation(
            "registerCudaRegion", tag, "Always 400, with the reason.", done
        ),
        ("POST", f"{cuda}/region/{{region}}/unregister"): Operation(
            "unregisterCudaRegion", tag, "There is nothing to forget.", done
        ),
        ("POST", f"{cuda}/unregister"): Operation(
            "unregisterCudaRegions", tag, "There is nothing to forget.", done
        ),
    }  # fmt: skip


def _page() -> Table:
    tag, text = "Status page", {"type": "string"}
    return {
        ("GET", "/"): Operation("page", tag, "The status page.", {HTML: text}),
        ("GET", "/edgeq/page"): Operation(
            "pageUpdate", tag, "What an open page is brought up to; 204 where it is so already.",
            _json("PageUpdate"), query={"seen": text}, statuses=(204,),
        ),
        ("GET", "/edgeq/page/{file}"): Operation(
            "pageFile", tag, "A file that the page loads.",
            {"text/css": text, "text/javascript": text, "image/svg+xml": None},
        ),
        ("GET", "/edgeq/models/{name}/versions/{version}/report"): Operation(
            "report", tag, "The report of the build of a version.", {HTML: text}
        ),
        ("GET", "/edgeq/status"): Operation(
            "status", "Administration", "Every model, the latest events, the quarantine.",
            _json("Status"),
        ),
    }  # fmt: skip


def _commands() -> Table:
    """Each command under the router's one path of all commands."""
    name, outcome = _json("ModelArgument"), _json("Outcome")
    told: dict[str, tuple[str, Mapping[str, Schema | None] | None]] = {
        "history": ("A model's versions and events.", name),
        "rollback": ("Serve the version before, or the one named.", _json("RollbackRequest")),
        "pin": ("Keep the version that serves.", name),
        "unpin": ("Let versions change again.", name),
        "recalibrate": ("Build anew on the samples of now.", name),
        "quarantine": ("List, show, retry or remove refused drops.", _json("QuarantineRequest")),
        "samples": ("List, show, prune or erase a model's samples.", _json("SamplesRequest")),
        "resume": ("End safe mode.", {JSON: {"type": "object"}}),
        "reload": ("Read the configuration again.", {JSON: {"type": "object"}}),
    }
    table = {
        ("POST", f"/edgeq/{command}"): Operation(
            command, "Administration", summary, outcome, body=body,
            needs_body=body in (name, told["rollback"][1], told["samples"][1]),
            statuses=(404, 409, 500, 503),
        )
        for command, (summary, body) in told.items()
    }  # fmt: skip
    table["POST", "/edgeq/samples/{name}"] = Operation(
        "addSamples", "Administration", "Add samples to a model's; the body is the file.", outcome,
        body={BINARY: None}, needs_body=True,
        query={"filename": {"type": "string", "minLength": 1}}, required_query=("filename",),
        statuses=(409, 413, 500, 503),
    )  # fmt: skip
    return table
