"""A data plane without engines behind a real server on real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import NotFoundError, UnavailableError
from edgeq.observe.page import Page
from edgeq.serve.calls import Calls, RequestRecord
from edgeq.serve.data_plane import ModelView
from edgeq.serve.http.app import AppParts, make_app
from edgeq.serve.http.frontend import HttpFrontend, HttpOptions
from edgeq.serve.http.threads import Threads
from edgeq.serve.limits import Limits
from edgeq.serve.listening import Listener, TcpAddress, UnixAddress, open_listeners
from edgeq.serve.rights import Rights
from edgeq.serve.server import Server
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from edgeq.swap import Afterwards, Inference
from edgeq.systemd import FdStore, Notifier
from edgeq.tflite.runtime import TensorSpec

MAX_BODY_BYTES = 1 << 20
TOKEN = "swordfish"
EMPTY_STATUS = {"edgeq": "0", "started": 0.0, "models": {}, "events": [], "quarantine": []}


def spec(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(dtype))


def view(name: str, **changes: Any) -> ModelView:
    made = ModelView(
        name=name,
        version="3",
        versions=("3", "2"),
        state="READY",
        reason="",
        engine="cpu-int8",
        inputs=(spec("x", (1, 4)),),
        outputs=(spec("y", (1, 4)),),
    )
    return made._replace(**changes)


MODELS = (
    view("echo"),
    view(
        "image",
        inputs=(spec("x", (1, 96, 96, 3), np.uint8),),
        outputs=(spec("y", (1, 96, 96, 3), np.uint8),),
    ),
    view(
        "pair",
        inputs=(spec("a", (-1, 2)), spec("b", (2,), np.int32)),
        outputs=(spec("a", (-1, 2)), spec("b", (2,), np.int32)),
    ),
    view("cold", version="", versions=(), state="UNAVAILABLE", reason="no engine", engine=""),
)


@dataclass
class FakeDataPlane:
    """Every model answers with its inputs; `behave` may do something else instead."""

    is_up: bool = True
    behave: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    submit_error: Exception | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    loads: list[tuple[str | None, Mapping[str, bytes] | None]] = field(default_factory=list)
    submitted: list[tuple[str, str | None, float | None]] = field(default_factory=list)
    priorities: list[int] = field(default_factory=list)
    is_inline: bool = False  # answer on the caller's thread
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def models(self) -> list[ModelView]:
        return list(MODELS)

    def model(self, name: str, version: str | None) -> ModelView:
        for found in MODELS:
            if found.name == name:
                if version in (None, *found.versions):
                    return found
                raise NotFoundError(f"model {name!r} has no version {version!r}")
        raise NotFoundError(f"model {name!r} is unknown; no such file was ever dropped")

    def submit(
        self,
        name: str,
        version: str | None,
        inputs: Mapping[str, np.ndarray],
        timeout_s: float | None,
        priority: int,
        afterwards: Afterwards,
    ) -> Future[Any]:
        self.submitted.append((name, version, timeout_s))
        self.priorities.append(priority)
        if self.submit_error is not None:
            raise self.submit_error
        if name == "cold":
            raise UnavailableError("model 'cold' has no engine yet", retry_after_s=7)
        if self.is_inline:
            done: Future[Any] = Future()
            done.set_result(self._run(name, inputs))
            return done
        return self.pool.submit(self._run, name, inputs)

    def _run(self, name: str, inputs: Mapping[str, np.ndarray]) -> Inference:
        if self.behave is not None:
            outputs = self.behave(inputs)
        elif name == "pair":
            outputs = dict(inputs)
        else:
            outputs = {"y": inputs["x"]}
        return Inference(outputs, "3", "cpu-int8", queue_s=1e-5, infer_s=1e-5)

    def is_ready(self) -> bool:
        return self.is_up

    def load(
        self, name: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        if files is None:
            self.model(name, None)
        self.calls.append(("load", name))
        self.loads.append((config, files))

    def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        self.model(name, None)
        self.calls.append(("unload", name))


@dataclass
class FakeAdmin:
    calls: list[tuple[str, dict[str, Any], bytes]] = field(default_factory=list)
    error: Exception | None = None
    looks: int = 0
    changes: dict[str, Any] = field(default_factory=dict)

    def status(self) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.looks += 1
        return {**EMPTY_STATUS, "now": time.time(), **self.changes, "ratio": float("nan")}

    def report(self, name: str, version: str) -> bytes:
        if version != "1":
            raise NotFoundError(f"model {name!r} has no version {version!r}")
        return f"<h1>{name}</h1>".encode()

    def call(self, command: str, arguments: Mapping[str, Any], body: bytes) -> Any:
        self.calls.append((command, dict(arguments), body))
        if self.error is not None:
            raise self.error
        if command == "slow":
            time.sleep(0.8)
        return {"done": command}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> str:
        text = self.json()["error"]
        assert isinstance(text, str)
        return text


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


@dataclass
class Running:
    """A server in a thread, what stands behind it, and a client."""

    server: Server
    listeners: list[Listener]
    frontend: HttpFrontend
    regions: SharedMemory
    thread: threading.Thread
    plane: FakeDataPlane
    admin: FakeAdmin
    records: list[RequestRecord]
    unix_socket: Path
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connection(self, *, unix: bool = False) -> http.client.HTTPConnection:
        if unix:
            return UnixConnection(self.unix_socket)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        unix: bool = False,
    ) -> Answer:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self.connection(unix=unix)
        try:
            connection.request(method, path, content, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def stop(self, grace_s: float = 5, *, park: bool = False) -> None:
        self.server.stop(grace_s, park=park)
        self.thread.join(20)
        assert not self.thread.is_alive()
        for listener in self.listeners:
            listener.close()
        self.regions.close()
        self.plane.pool.shutdown(wait=True, cancel_futures=True)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers; keywords are `timeout_s`, `rights`, `connections`, `tls`, Limits' own."""
    started: list[Running] = []

    def begin(
        *,
        timeout_s: float = 5,
        rights: Rights | None = None,
        connections: Sequence[socket.socket] = (),
        tls: ssl.SSLContext | None = None,
        **limits: Any,
    ) -> Running:
        plane, admin, regions, threads = FakeDataPlane(), FakeAdmin(), SharedMemory(), Threads()
        records: list[RequestRecord] = []
        calls = Calls(plane, timeout_s, Statistics(), records.append)
        parts = AppParts(calls, admin, rights or Rights(), regions, threads, Page())
        path = tmp_path / f"run{len(started)}" / "edgeq.sock"
        addresses = (TcpAddress("http", "127.0.0.1", 0), UnixAddress("unix", path))
        listeners = open_listeners(addresses, [], FdStore(Notifier(None)))
        options = HttpOptions(Limits(**{"max_body_bytes": MAX_BODY_BYTES, **limits}), tls)
        frontend = HttpFrontend(make_app(parts).handle, options, listeners, connections)
        server = Server([frontend])
        thread = threading.Thread(target=server.run)
        thread.start()
        server.wait_started()
        started.append(
            Running(
                server,
                listeners,
                frontend,
                regions,
                thread,
                plane,
                admin,
                records,
                path,
                listeners[0].port,
            )
        )
        return started[-1]

    yield begin
    for running in started:
        running.stop()


@pytest.fixture
def running(start: Start) -> Running:
    """One server with the usual options."""
    return start()
