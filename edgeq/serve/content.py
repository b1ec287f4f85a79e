"""Bytes on the wire <-> body: the size limit, and gzip or deflate both ways."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Mapping

from starlette.types import Message, Receive

from edgeq.errors import DeadlineError, InvalidRequestError, TooLargeError

Headers = Mapping[bytes, bytes]

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's codes for the two containers


async def read_body(
    headers: Headers, receive: Receive, *, max_bytes: int, timeout_s: float
) -> bytes:
    """Receive and decompress a body; never holds more than `max_bytes` of either.

    Raises:
        TooLargeError: it is larger, announced or real, compressed or not.
        DeadlineError: it did not arrive within `timeout_s`.
        InvalidRequestError: it is compressed in an unknown way or damaged, or the client left.
    """
    _check_size(int(headers.get(b"content-length", b"0")), max_bytes)
    message = await receive()
    body = _chunk(message)
    if message.get("more_body", False):
        # Off the short way: most bodies come in one piece, and a timer costs more than that.
        try:
            body += await asyncio.wait_for(_read_rest(receive, max_bytes - len(body)), timeout_s)
        except asyncio.TimeoutError as error:
            raise DeadlineError(f"the body did not arrive within {timeout_s:g} s") from error
    _check_size(len(body), max_bytes)
    return decompress(headers.get(b"content-encoding", b"").decode("latin-1"), body, max_bytes)


async def _read_rest(receive: Receive, max_bytes: int) -> bytes:
    """Stop early once it is too large: the caller refuses that."""
    body = bytearray()
    more = True
    while more and len(body) <= max_bytes:
        message = await receive()
        body += _chunk(message)
        more = message.get("more_body", False)
    return bytes(body)


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise InvalidRequestError("the client left before its request ended")
    chunk: bytes = message.get("body", b"")
    return chunk


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLargeError(
            f"the body has {size} bytes or more; at most {max_bytes} are taken",
            hint="Send tensors as binary data, or raise the server's limit.",
        )


def decompress(encoding: str, body: bytes, max_bytes: int) -> bytes:
    """Undo Content-Encoding; errors as `read_body`."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise InvalidRequestError(
            f"Content-Encoding is {encoding!r:.40}; gzip, deflate or none is expected"
        )
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequestError(f"the body is not {encoding}: {error}") from error
    _check_size(len(content), max_bytes)
    if not stream.eof or stream.unused_data:
        what = "goes on after its end" if stream.eof else "ends early"
        raise InvalidRequestError(f"the body's {encoding} stream {what}")
    return content


def compress(accepted: str, body: bytes) -> tuple[bytes, str]:
    """Compress a response in a way that Accept-Encoding names; returns it and Content-Encoding."""
    for encoding in _acceptable(accepted):
        if encoding == "gzip":
            return gzip.compress(body, compresslevel=1, mtime=0), encoding
        if encoding == "deflate":
            return zlib.compress(body, level=1), encoding
    return body, ""


def _acceptable(accepted: str) -> list[str]:
    """Return the codings of an Accept-Encoding that `q=0` does not refuse, gzip first."""
    codings = []
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, weight = parameter.partition("=")
        if name.strip() != "q" or weight.strip().strip("0."):
            codings.append(coding.strip())
    return sorted(codings, reverse=True)
