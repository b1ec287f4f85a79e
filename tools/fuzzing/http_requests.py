"""A seed -> requests over HTTP: right ones, ones whose JSON is changed, ones whose bytes are."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.fuzzing.mutation import NUMBERS, mutate

TENSOR, SHAPE, PIXELS = "image", [1, 16, 16, 1], 256
WITNESS = "digits"  # the model that nothing but right requests is about
NAMES = ("toy", "toy", "toy", "nobody", "..", "%2e%2e", "a%00b", "toy%2f1", "x" * 300, "%ff%fe")
VERSIONS = ("1", "1", "2", "0", "-1", "99999999999999999999", "%c2%b2", "latest")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 1e308, "", "x", "\0", "\u00bf", "../..", [], {}, [[]],
    *NUMBERS,
)  # fmt: skip
COMMANDS = ("history", "rollback", "pin", "unpin", "quarantine", "samples", "burn")
WAYS = ("json", "json", "binary", "raw", "gzip", "chunked", "region")
RIGHT_WAYS = WAYS[:-1]  # the region may not be registered
HEADERS = (
    "Expect: 100-continue", "Connection: close", "Connection: keep-alive, x", "Accept-Encoding: *",
    "Accept-Encoding: gzip;q=0, deflate", "Content-Encoding: gzip", "Content-Encoding: br",
    "Inference-Header-Content-Length: -1", "Inference-Header-Content-Length: 7",
    "Inference-Header-Content-Length: 99999999999999999999", "Authorization: Bearer \u00e9",
    "Authorization: Basic dTpw", "Origin: http://evil", "Upgrade: h2c", "Host: other",
    "Transfer-Encoding: chunked", "Transfer-Encoding: identity", "Content-Length: 3",
    "Content-Length: +3", "X: \u00ff\u00fe", "Y:", " folded", "Content-Type: text/plain",
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """What goes over a new connection; `is_right` where one 200 is all that may come of it."""

    content: bytes
    is_right: bool = False


class HttpRequests:
    """The same requests for the same seed.

    Args:
        draw: where chance comes from.
        region: name of a shared memory segment of the daemon's user, at least 4 KiB long.
        token: sent with some of them.
    """

    def __init__(self, draw: random.Random, region: str, token: str) -> None:
        self._draw = draw
        self._region = region
        self._token = token

    def next(self) -> Sent:
        """Return the next one."""
        kind = self._draw.random()
        if kind < 0.2:
            return Sent(self._right(), is_right=True)
        if kind < 0.45:
            return Sent(self._infer(changed(self._draw, self._valid())))
        if kind < 0.65:
            return Sent(self._other())
        if kind < 0.75:
            return Sent(self._pipelined())
        return Sent(mutate(self._draw, [self._infer(self._valid()), self._other()]))

    # ---- infer

    def _valid(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": TENSOR, "shape": SHAPE, "datatype": "FP32"}
        entry["data"] = [round(self._draw.random(), 3)] * PIXELS
        request: dict[str, Any] = {"inputs": [entry]}
        if self._draw.random() < 0.3:
            request["id"] = str(self._draw.randrange(1000))
        if self._draw.random() < 0.2:
            request["parameters"] = {"timeout": 5_000_000, "priority": 1}
        return request

    def _infer(self, tree: Any, ways: Sequence[str] = WAYS, model: str = "toy") -> bytes:
        """Send a request as JSON, or its first input in another way, maybe compressed."""
        way, headers, tail = self._draw.choice(ways), [], b""
        entry = _first_input(tree) or {}
        if way in ("binary", "region"):
            entry.pop("data", None)
            size = 4 * PIXELS
            in_region = {"shared_memory_region": "r1", "shared_memory_byte_size": size}
            entry["parameters"] = in_region if way == "region" else {"binary_data_size": size}
            tail = bytes(size) if way == "binary" else b""
        body = json.dumps(tree).encode()
        if way == "binary":
            headers.append(f"Inference-Header-Content-Length: {len(body)}")
        elif way == "raw":
            headers.append("Inference-Header-Content-Length: 0")
            body = bytes(4 * PIXELS)
        elif way == "gzip":
            headers.append("Content-Encoding: gzip")
            body = gzip.compress(body, 1)
        path = f"/v2/models/{model}/infer"
        return self._post(path, body + tail, headers, is_chunked=way == "chunked")

    # ---- everything else

    def _other(self) -> bytes:
        """Ask something else, mostly with a body, sometimes with a strange header."""
        draw = self._draw
        name, version = draw.choice(NAMES), draw.choice(VERSIONS)
        path = draw.choice(
            ("/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats",
             "/v2/openapi.json", "/edgeq/status", "/edgeq/page?seen=x", "/edgeq/page/page.css",
             f"/edgeq/page/{name}", f"/v2/models/{name}", f"/v2/models/{name}/ready",
             f"/v2/models/{name}/versions/{version}/stats", f"/v2/models/{name}/config",
             f"/edgeq/models/{name}/versions/{version}/report", "*", "http://box/v2", f"/{name}")
        )  # fmt: skip
        if draw.random() < 0.4:
            method = draw.choice(("GET", "GET", "HEAD", "OPTIONS", "DELETE", "PUT", "TRACE"))
            return self._request(method, path, [])
        path, content = self._posted(name)
        if draw.random() < 0.5:
            content = changed(draw, content)
        return self._post(path, json.dumps(content).encode(), [])

    def _posted(self, name: str) -> tuple[str, Any]:
        draw = self._draw
        region = draw.choice(("r1", "r2", "%00", "r" * 300))
        registered = {"key": f"/{self._region}", "offset": 0, "byte_size": 64}
        loaded = {"parameters": {"file:1/model.tflite": base64.b64encode(b"TFL3").decode()}}
        command = draw.choice(COMMANDS)
        argument = draw.choice(VALUES)
        return draw.choice(
            (
                ("/v2/repository/index", {"ready": True}),
                (f"/v2/repository/models/{name}/load", {}),
                (f"/v2/repository/models/{name}/load", {"parameters": {"config": "{}"}}),
                (f"/v2/repository/models/{draw.choice(('%', '..', 'a%2fb'))}/load", loaded),
                (f"/v2/repository/models/{name}/unload", {}),
                (f"/v2/systemsharedmemory/region/{region}/register", registered),
                (f"/v2/systemsharedmemory/region/{region}/unregister", {}),
                (f"/v2/cudasharedmemory/region/{region}/register", {}),
                (f"/edgeq/{command}", {"name": "toy", "to": argument, "id": argument}),
                ("/edgeq/samples/toy?filename=" + draw.choice(("a.npy", "b.png", "", "%00.npz")),
                 argument),
            )
        )  # fmt: skip

    def _pipelined(self) -> bytes:
        parts = [self._draw.choice((self._other, self._right))() for _ in range(3)]
        return b"".join(parts)

    def _right(self) -> bytes:
        return self._infer(self._valid(), RIGHT_WAYS, WITNESS)

    def _post(
        self, path: str, body: bytes, headers: Sequence[str], *, is_chunked: bool = False
    ) -> bytes:
        if not is_chunked:
            length = f"Content-Length: {len(body)}"
            return self._request("POST", path, [*headers, length]) + body
        middle = len(body) // 2
        pieces = [piece for piece in (body[:middle], body[middle:]) if piece]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        head = self._request("POST", path, [*headers, "Transfer-Encoding: chunked"])
        return head + chunks + b"0\r\n\r\n"

    def _request(self, method: str, path: str, headers: Sequence[str]) -> bytes:
        named = ["Host: box", *headers]
        is_infer = path.endswith("/infer")
        if not is_infer and self._draw.random() < 0.5:
            named.append(f"Authorization: Bearer {self._token}")
        if not is_infer and self._draw.random() < 0.2:
            named.insert(self._draw.randrange(len(named) + 1), self._draw.choice(HEADERS))
        text = "\r\n".join([f"{method} {path} HTTP/1.1", *named, "", ""])
        return text.encode("latin-1")


def _first_input(tree: Any) -> dict[str, Any] | None:
    inputs = tree.get("inputs") if isinstance(tree, Mapping) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return first if isinstance(first, dict) else None


def changed(draw: random.Random, tree: Any) -> Any:
    """Replace, drop or double one part, anywhere in a tree."""
    if not isinstance(tree, dict | list) or not tree or draw.random() < 0.1:
        return draw.choice(VALUES)
    keys = list(tree) if isinstance(tree, dict) else range(min(len(tree), 4))
    key: Any = draw.choice(list(keys))
    made: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    kind = draw.random()
    if kind < 0.15:
        del made[key]
    elif kind < 0.25:
        if isinstance(made, list):
            made.append(made[key])
        else:
            made[draw.choice(("parameters", "id", "x", "outputs"))] = draw.choice(VALUES)
    else:
        made[key] = changed(draw, tree[key])
    return made
