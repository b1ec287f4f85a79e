"""Threads that infer without end and hold every answer to what its version must say."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tools.serve_bench.regions import Region
from tools.serve_bench.wire import (
    Answer,
    Connection,
    binary_request,
    decoded,
    json_request,
    shared_request,
)
from tools.soaking.journal import Journal
from tools.soaking.plan import CLASSIFIERS, PLAIN
from tools.soaking.reference import Reference

Array = npt.NDArray[Any]
ENGINE = re.compile(rb"\r\nx-edgeq-engine: *([\w-]+)", re.IGNORECASE)
RETRY = re.compile(rb"\r\nretry-after: *\d+", re.IGNORECASE)
PACE_S = 0.02  # a camera's
ANSWER_LIMIT_S = 30.0
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
GRPC_GRACE_S = 3.0  # until a channel that failed tries again
GRPC_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.min_reconnect_backoff_ms", 100)]  # fmt: skip


@dataclass(frozen=True)
class Tensors:
    """How a model's tensors are named."""

    given: str
    taken: str
    datatype: str
    dtype: type[np.generic]
    out_values: int


TENSORS = {
    **dict.fromkeys(CLASSIFIERS, Tensors("image", "scores", "FP32", np.float32, 10)),
    PLAIN: Tensors("x", "y", "UINT8", np.uint8, 24 * 24 * 3),
}


@dataclass(frozen=True)
class Said:
    """An answer, whatever it came over."""

    status: str  # "200", or what it is instead
    version: str = ""
    engine: str = ""
    output: Array | None = None
    is_text: bool = False
    may_retry: bool = False
    words: str = ""


class GoneError(Exception):
    """The connection failed; what was asked may or may not have been done."""


class Way(Protocol):
    """A connection to the daemon; `ask` raises GoneError."""

    grace_s: float

    def ask(self, model: str, kind: str, index: int) -> Said: ...

    def close(self) -> None: ...


class HttpWay:
    """HTTP over TCP or a Unix socket; binary tensors, JSON, or tensors in shared memory."""

    grace_s = 0.0

    def __init__(
        self, address: tuple[str, int] | Path, reference: Reference, form: str = "binary"
    ) -> None:
        self._frames, self._form = reference.frames, form
        self._regions: dict[str, tuple[Region, Region]] = {}
        self._made: dict[tuple[str, str, int], bytes] = {}
        self._connection = Connection(address, ANSWER_LIMIT_S)

    def ask(self, model: str, kind: str, index: int) -> Said:
        try:
            if self._form != "shared":
                return self._said(model, self._connection.ask(self._request(model, kind, index)))
            return self._ask_shared(model, kind, index)
        except OSError as error:
            raise GoneError(repr(error)) from error

    def _request(self, model: str, kind: str, index: int) -> bytes:
        key = (model, kind, index)
        if key not in self._made:
            names, make = TENSORS[model], json_request if self._form == "json" else binary_request
            frame = self._frames[model][kind][index]
            self._made[key] = make(model, names.given, frame, names.datatype, names.taken)
        return self._made[key]

    def _ask_shared(self, model: str, kind: str, index: int) -> Said:
        names, frame = TENSORS[model], self._frames[model][kind][index]
        size = names.out_values * np.dtype(names.dtype).itemsize
        if model not in self._regions:
            self._regions[model] = Region(frame.nbytes), Region(size)
            for region in self._regions[model]:
                answer = self._connection.ask(region.registration())
                if answer.status != 200:
                    return self._said(model, answer)
        given, taken = self._regions[model]
        given.write(frame.tobytes())
        answer = self._connection.ask(shared_request(
            model, names.given, frame, names.datatype, names.taken, size, (given.name, taken.name)
        ))  # fmt: skip
        return self._said(model, answer, taken.read() if answer.status == 200 else b"")

    def _said(self, model: str, answer: Answer, shared: bytes = b"") -> Said:
        if answer.status != 200:
            words = answer.body[:200].decode(errors="replace")
            retry = RETRY.search(answer.head) is not None
            return Said(str(answer.status), may_retry=retry, words=words)
        told, names = answer.json, TENSORS[model]
        if self._form == "json":
            output = decoded(told["outputs"][0]["data"], np.dtype(names.dtype))
        else:
            output = np.frombuffer(shared or answer.tensors, names.dtype)
        engine = ENGINE.search(answer.head)
        return Said("200", str(told["model_version"]), engine[1].decode() if engine else "",
                    output, is_text=self._form == "json")  # fmt: skip

    def close(self) -> None:
        for regions in self._regions.values():
            for region in regions:
                with contextlib.suppress(OSError):  # the daemon is gone, and what it knew of it
                    self._connection.ask(region.unregistration())
                region.close()
        self._connection.close()


class GrpcWay:
    """gRPC over TCP."""

    grace_s = GRPC_GRACE_S

    def __init__(self, port: int, reference: Reference) -> None:
        import grpc

        from edgeq.serve.grpc.messages import Messages

        self._grpc, self._frames = grpc, reference.frames
        messages = Messages()
        self._asked, self._answered = messages["ModelInferRequest"], messages["ModelInferResponse"]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", GRPC_OPTIONS)
        self._call = self._channel.unary_unary(GRPC_METHOD)

    def ask(self, model: str, kind: str, index: int) -> Said:
        names, frame = TENSORS[model], self._frames[model][kind][index]
        request = self._asked(model_name=model, raw_input_contents=[frame.tobytes()])
        tensor = request.inputs.add(name=names.given, datatype=names.datatype)
        tensor.shape.extend(frame.shape)
        try:
            content, call = self._call.with_call(
                request.SerializeToString(), timeout=ANSWER_LIMIT_S
            )
        except self._grpc.RpcError as error:
            return self._failed(error)
        answer = self._answered.FromString(content)
        metadata = {**dict(call.initial_metadata()), **dict(call.trailing_metadata())}
        output = np.frombuffer(answer.raw_output_contents[0], names.dtype)
        return Said("200", answer.model_version, str(metadata.get("x-edgeq-engine", "")), output)

    def _failed(self, error: Any) -> Said:
        code, words = error.code().name, str(error.details())
        metadata = dict(error.trailing_metadata() or ())
        if code == "UNAVAILABLE" and not metadata:  # the channel's own
            raise GoneError(words)
        statuses = {"UNAVAILABLE": "503", "RESOURCE_EXHAUSTED": "503", "NOT_FOUND": "404",
                    "INTERNAL": "500", "UNKNOWN": "500", "DEADLINE_EXCEEDED": "504"}  # fmt: skip
        return Said(statuses.get(code, code), may_retry=True, words=words)

    def close(self) -> None:
        self._channel.close()


class Client:
    """One thread; it comes back after whatever failed."""

    def __init__(
        self, name: str, open_way: Callable[[], Way], models: tuple[str, ...],
        reference: Reference, journal: Journal, *, per_connection: int = 1 << 30,
    ) -> None:  # fmt: skip
        self.name, self._open, self._models = name, open_way, models
        self._reference, self._journal, self._per_connection = reference, journal, per_connection
        self.kinds = dict.fromkeys(models, "usual")  # what is sent, changed by a drift
        self.requests = 0
        self.seen: list[tuple[float, str, int]] = []  # time, model, version: where it changed
        self._last: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client {name}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(2 * ANSWER_LIMIT_S)
        if self._thread.is_alive():
            self._journal.violate("a client that hangs", self.name)

    def _run(self) -> None:
        while not self._stop.is_set():
            opened = time.monotonic()
            try:
                way = self._open()
            except OSError as error:
                self._gone(opened, 0.0, repr(error))
                continue
            try:
                self._use(way, opened)
            finally:
                way.close()

    def _use(self, way: Way, opened: float) -> None:
        """Ask until the connection is worn out or fails."""
        for number in range(self._per_connection):
            if self._stop.is_set():
                return
            model = self._models[number % len(self._models)]
            kind = self.kinds[model]
            index = self.requests % len(self._reference.frames[model][kind])
            self.requests += 1
            sent = time.monotonic()
            try:
                said = way.ask(model, kind, index)
            except GoneError as error:
                self._gone(opened, way.grace_s, str(error))
                return
            if said.status == "200":
                self._right(model, kind, index, said)
            else:
                self._refused(model, said, sent)
                if said.status != "503":
                    return  # anew: a restarted daemon knows nothing of a region, for one
            opened = sent if way.grace_s else opened
            self._stop.wait(PACE_S)

    def _right(self, model: str, kind: str, index: int, said: Said) -> None:
        self._journal.count(self._journal.answers, f"200 by {said.engine}")
        assert said.output is not None
        key = (model, said.version, said.engine)
        self._reference.check(key, kind, index, said.output, is_text=said.is_text)
        version = int(said.version)
        if self._last.get(model) != version:
            self._last[model] = version
            self.seen.append((time.time(), model, version))

    def _refused(self, model: str, said: Said, sent: float) -> None:
        """Judge an answer that is none."""
        journal = self._journal
        journal.count(journal.answers, said.status)
        evidence = f"{self.name}, {model}: {said.status} {said.words}"
        if journal.is_allowed(f"unload {model}", sent) and said.status in ("400", "404", "503"):
            return
        if said.status == "503" and not said.may_retry:
            journal.violate("503 without Retry-After", evidence)
        elif said.status != "503":
            journal.violate(f"answered {said.status}", evidence)
        elif not any(journal.is_allowed(kind, sent) for kind in ("down", "overload")):
            journal.violate("503 while nothing was wrong", evidence)
        self._stop.wait(PACE_S)

    def _gone(self, opened: float, grace_s: float, words: str) -> None:
        journal = self._journal
        journal.count(journal.answers, "no connection")
        is_ours = journal.is_allowed("down", opened, grace_s)
        if not is_ours and not journal.is_allowed("overload", opened):
            journal.violate("a connection that failed by itself", f"{self.name}: {words}")
        self._stop.wait(5 * PACE_S)
