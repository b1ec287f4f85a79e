"""The literal table of servers: edgeq, its peers, and the stacks that an HTTP server is made of."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.calibration_bench.environments import MissingEnvironment, python_of
from tools.serve_bench.clients import Target
from tools.serve_bench.edgeq_daemon import start_edgeq
from tools.serve_bench.processes import (
    Running,
    ServerError,
    free_ports,
    start,
    wait_until_ready,
)
from tools.serve_bench.workloads import Workload

SCRIPTS = Path(__file__).resolve().parent.parent / "serve_peers"
LITERT = "ai-edge-litert==2.3.0"

# As they were measured together. What is not named is what pip finds for these.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    # its parallel workers end with newer ones: "There is no current event loop"
    "mlserver": ("mlserver==1.7.1", "uvloop<0.22", LITERT),
    "litserve": ("litserve==0.2.19", "numpy", LITERT),
    "stacks": ("uvicorn==0.54.0", "httptools==0.9.0", "granian==2.8.7", LITERT),
}

NO_MODEL = "identity"  # of which a peer needs no file


@dataclass(frozen=True)
class Started:
    """A server that answers."""

    running: Running | None  # None: there is no process to it
    target: Target


@dataclass(frozen=True)
class Server:
    """A server and the clients it is measured with, the cheapest first."""

    name: str
    clients: tuple[str, ...]
    environment: str | None  # None: edgeq's own
    launch: Callable[[Path, Path, Workload], Started]  # (python, folder, workload)
    is_identity_only: bool = False

    def start(self, peers: Path, folder: Path, workload: Workload) -> Started:
        """Start and wait until it answers.

        Raises:
            ServerError: it cannot be installed or started; the message says why.
        """
        try:
            own = self.environment
            python = python_of(own, peers, REQUIREMENTS) if own else Path(sys.executable)
        except MissingEnvironment as error:
            raise ServerError(f"not installed: {error}") from error
        folder.mkdir(parents=True)
        return self.launch(python, folder, workload)


def _ready(running: Running, target: Target, path: str) -> Started:
    try:
        wait_until_ready(running, target.tcp[1], path)
    except ServerError:
        running.stop()
        raise
    return Started(running, target)


def _model_arguments(workload: Workload) -> list[str]:
    return [] if workload.name == NO_MODEL else ["--model", str(workload.model)]


def _edgeq(_: Path, folder: Path, workload: Workload) -> Started:
    daemon = start_edgeq(folder)
    try:
        daemon.drop(workload.model.read_bytes(), workload.name)
        daemon.wait_served(workload.name)
    except ServerError:
        daemon.running.stop()
        raise
    return Started(daemon.running, daemon.target(workload.name))


def _stack(script: str, *arguments: str, unix: bool = False) -> Callable[..., Started]:
    def launch(python: Path, folder: Path, workload: Workload) -> Started:
        (port,) = free_ports(1)
        socket = folder / "stack.sock" if unix else None
        command = [str(python), str(SCRIPTS / script), "--port", str(port), *arguments]
        command += ["--shape", ",".join(map(str, workload.output_shape))]
        command += ["--unix", str(socket)] if socket else []
        running = start([*command, *_model_arguments(workload)], folder, "stack",
                        {"PYTHONPATH": str(SCRIPTS)})  # fmt: skip
        return _ready(running, Target(workload.name, port, None, socket), "/")

    return launch


def _mlserver(workers: int, *, echo: bool = False) -> Callable[..., Started]:
    def launch(python: Path, folder: Path, workload: Workload) -> Started:
        http, grpc, metrics = free_ports(3)
        settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc,
                    "metrics_port": metrics, "parallel_workers": workers, "debug": False,
                    "metrics_dir": str(folder)}  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        model = "" if workload.name == NO_MODEL else str(workload.model)
        write_mlserver_model(folder / "m", workload.name, "1", output=workload.output_name,
                             model=model, echo=echo)  # fmt: skip
        running = start_mlserver(python, folder)
        target = Target(workload.name, http, grpc)
        return _ready(running, target, f"/v2/models/{workload.name}/ready")

    return launch


def start_mlserver(python: Path, folder: Path) -> Running:
    """Start MLServer over a folder with its settings and models."""
    command = [str(python), "-c", "from mlserver.cli import main; main()", "start", str(folder)]
    return start(command, folder, "mlserver", {"PYTHONPATH": str(SCRIPTS)})


def write_mlserver_model(
    folder: Path, name: str, version: str, **extra: str | float | bool
) -> None:
    """Write the settings of one version of a model; `extra` as its runtime reads them."""
    folder.mkdir(exist_ok=True)
    told = {"name": name, "implementation": "mlserver_runtime.Runtime",
            "parameters": {"version": version, "extra": extra}}  # fmt: skip
    (folder / "model-settings.json").write_text(json.dumps(told))


def _litserve(*arguments: str) -> Callable[..., Started]:
    def launch(python: Path, folder: Path, workload: Workload) -> Started:
        (port,) = free_ports(1)
        types = ["--input-type", str(workload.inputs.dtype),
                 "--output-type", str(workload.outputs.dtype)]  # fmt: skip
        command = [str(python), str(SCRIPTS / "litserve_api.py"), "--port", str(port), *types]
        running = start([*command, *arguments, *_model_arguments(workload)], folder, "litserve")
        return _ready(running, Target(workload.name, port), "/health")

    return launch


def _nothing(_: Path, __: Path, workload: Workload) -> Started:
    """No server: the interpreter runs in the client's own process."""
    return Started(None, Target(workload.name))


EDGEQ, BOUND, BARE = "edgeq", "asyncio.Protocol", "bare interpreter"
MLSERVER, MLSERVER_ECHO = "MLServer workers", "MLServer echo, workers"
EDGEQ_CLIENTS = ("binary, TCP", "binary, Unix", "shared memory, Unix", "gRPC raw",
                 "tritonclient.http", "tritonclient.grpc", "kserve", "JSON, TCP")  # fmt: skip
OIP_CLIENTS = ("gRPC raw", "tritonclient.grpc", "JSON, TCP")

SERVERS: tuple[Server, ...] = (
    Server(BARE, ("in process",), None, _nothing),
    Server(BOUND, ("binary, TCP", "binary, Unix", "tritonclient.http"), None,
           _stack("bare_asyncio.py", unix=True)),
    Server("asyncio + httptools", ("binary, TCP",), "stacks", _stack("httptools_asyncio.py")),
    Server("uvicorn ASGI", ("binary, TCP",), "stacks", _stack("asgi.py", "--server", "uvicorn")),
    Server("granian ASGI", ("binary, TCP",), "stacks", _stack("asgi.py", "--server", "granian")),
    Server(EDGEQ, EDGEQ_CLIENTS, None, _edgeq),
    Server(f"{MLSERVER_ECHO}=0", OIP_CLIENTS, "mlserver", _mlserver(0, echo=True), True),
    Server(f"{MLSERVER}=0", OIP_CLIENTS, "mlserver", _mlserver(0)),
    Server(f"{MLSERVER}=1", OIP_CLIENTS, "mlserver", _mlserver(1)),
    Server("LitServe", ("JSON list",), "litserve", _litserve()),
    Server("LitServe base64", ("base64 in JSON",), "litserve", _litserve("--base64")),
)  # fmt: skip
