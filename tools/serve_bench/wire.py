"""Values -> the bytes of a request; a socket -> answers: a client that costs next to nothing.

What a request needs is made before the clock runs; reading an answer finds one number in its head.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HEADER_LENGTH = "Inference-Header-Content-Length"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
JSON_LENGTH = re.compile(rb"\r\n" + HEADER_LENGTH.encode() + rb": *(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"
RECEIVE_BYTES = 1 << 16  # more is a memory mapping of its own for each answer
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    head: bytes
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The JSON of the body, or of its part before the tensors."""
        found = JSON_LENGTH.search(self.head)
        told: dict[str, Any] = json.loads(self.body[: int(found[1])] if found else self.body)
        return told

    @property
    def tensors(self) -> bytes:
        found = JSON_LENGTH.search(self.head)
        return self.body[int(found[1]) :] if found else b""


class Connection:
    """One keep-alive connection to (host, port) or to a Unix socket."""

    def __init__(self, address: tuple[str, int] | Path, timeout_s: float = TIMEOUT_S) -> None:
        if isinstance(address, Path):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout_s)
            self.socket.connect(str(address))
        else:
            self.socket = socket.create_connection(address, timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # From here on the kernel's timeouts: Python's own take a poll(2) before each call.
        self._timeout_s = timeout_s
        self.socket.settimeout(None)
        seconds = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.socket.setsockopt(socket.SOL_SOCKET, direction, seconds)

    def ask(self, request: bytes) -> Answer:
        """Send a request and return its answer.

        Raises:
            OSError: the connection failed, timed out or was closed.
        """
        try:
            return self._ask(request)
        except BlockingIOError as error:  # so the kernel calls its timeout
            raise TimeoutError(f"no answer within {self._timeout_s:g} s") from error

    def _ask(self, request: bytes) -> Answer:
        self.socket.sendall(request)
        received = self.socket.recv(RECEIVE_BYTES)
        while (end := received.find(END)) < 0:
            received += self._more()
        head, parts, have = received[:end], [received[end + 4 :]], len(received) - end - 4
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        while have < length:
            part = self._more()
            parts.append(part)
            have += len(part)
        return Answer(int(head[9:12]), head, b"".join(parts) if len(parts) > 1 else parts[0])

    def _more(self) -> bytes:
        received = self.socket.recv(RECEIVE_BYTES)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received

    def close(self) -> None:
        self.socket.close()


def http_request(
    path: str, body: bytes = b"", *, method: str = "POST", headers: dict[str, str] | None = None
) -> bytes:
    """Return the bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + END + body


def binary_request(
    model: str, name: str, values: Array, datatype: str, output: str, **parameters: Any
) -> bytes:
    """Return an infer request with its tensor behind the JSON, which asks for the same back."""
    given = {"name": name, "shape": list(values.shape), "datatype": datatype,
             "parameters": {"binary_data_size": values.nbytes}}  # fmt: skip
    told: dict[str, Any] = {"inputs": [given], "outputs": [_wanted(output, binary_data=True)]}
    if parameters:
        told["parameters"] = parameters
    head = json.dumps(told, separators=(",", ":")).encode()
    headers = {HEADER_LENGTH: str(len(head))}
    return http_request(infer_path(model), head + values.tobytes(), headers=headers)


def json_request(model: str, name: str, values: Array, datatype: str, output: str) -> bytes:
    """Return an infer request with its tensor as a flat list of numbers."""
    given = {"name": name, "shape": list(values.shape), "datatype": datatype,
             "data": values.ravel().tolist()}  # fmt: skip
    body = json.dumps({"inputs": [given], "outputs": [_wanted(output)]}, separators=(",", ":"))
    headers = {"Content-Type": "application/json"}
    return http_request(infer_path(model), body.encode(), headers=headers)


def shared_request(
    model: str, name: str, values: Array, datatype: str, output: str, out_bytes: int,
    regions: tuple[str, str],
) -> bytes:  # fmt: skip
    """Return an infer request of which input and output lie in registered regions."""
    given = {"name": name, "shape": list(values.shape), "datatype": datatype,
             "parameters": _region(regions[0], values.nbytes)}  # fmt: skip
    wanted = {"name": output, "parameters": _region(regions[1], out_bytes)}
    body = json.dumps({"inputs": [given], "outputs": [wanted]}, separators=(",", ":")).encode()
    return http_request(infer_path(model), body)


def lit_request(values: Array, *, as_base64: bool) -> bytes:
    """Return a request to LitServe's /predict."""
    data: Any = values.tolist()
    if as_base64:
        data = base64.b64encode(values.tobytes()).decode()
    body = json.dumps({"data": data}, separators=(",", ":")).encode()
    return http_request("/predict", body, headers={"Content-Type": "application/json"})


def infer_path(model: str) -> str:
    return f"/v2/models/{model}/infer"


def decoded(data: Any, dtype: np.dtype[Any]) -> Array:
    """Return the flat values of JSON data: nested lists of numbers, or base64."""
    if isinstance(data, str):
        return np.frombuffer(base64.b64decode(data), dtype)
    return np.asarray(data, dtype).ravel()


def _wanted(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters} if parameters else {"name": name}


def _region(name: str, size: int) -> dict[str, Any]:
    return {"shared_memory_region": name, "shared_memory_byte_size": size}
