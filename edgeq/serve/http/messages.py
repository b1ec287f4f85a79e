"""What the wire hands to the app, and what it gets back."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from edgeq.serve.rights import Peer

JSON = "application/json"
REMEMBERED_HEADS = 256
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One whole request; header names are lower case, repeated ones joined by commas."""

    method: str
    path: str  # unquoted by segment where the router matched it
    query: str
    headers: Mapping[bytes, bytes]
    body: bytes | bytearray
    peer: Peer
    max_body_bytes: int  # of the body, decompressed too
    keep_alive: bool = True
    is_abandoned: bool = False  # its client has hung up; the answer is for the records
    parameters: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: bytes) -> str:
        """Return a header's value, "" where it is absent."""
        return self.headers.get(name, b"").decode("latin-1")

    def query_value(self, name: str) -> str:
        """Return the first value of a query parameter, "" where it is absent."""
        return urllib.parse.parse_qs(self.query).get(name, [""])[0]


@dataclass(slots=True)
class Answer:
    """One response; the parts of its body are sent one after the other, without joining them.

    `on_sent` is called once the answer has been handed to the connection.
    """

    status: int
    parts: Sequence[Any] = ()  # bytes or flat uint8 arrays
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    on_sent: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(len(part) for part in self.parts)

    def head(self, date: bytes, size: int, *, is_last: bool) -> bytes:
        """Return status line and headers of an answer whose body has `size` bytes."""
        media = self.media if self.parts or self.status != 204 else None
        headers = tuple(self.headers.items())
        return _head(self.status, media, size, headers, is_last) + date + b"\r\n"


@functools.lru_cache(REMEMBERED_HEADS)
def _head(
    status: int, media: str | None, size: int, headers: tuple[tuple[str, str], ...], is_last: bool
) -> bytes:
    """Write all but the date; remembered, for a model's answers mostly have the same."""
    text = f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\n"
    if media is not None:
        text += f"content-type: {media}\r\ncontent-length: {size}\r\n"
    for name, value in headers:
        text += f"{name}: {value}\r\n"
    if is_last:
        text += "connection: close\r\n"
    return text.encode("latin-1", "replace")


Handler = Callable[[Request], "Answer | Awaitable[Answer]"]
