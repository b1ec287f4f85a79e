"""Compressed bodies and back: gzip or deflate, both ways, never more than the limit."""

from __future__ import annotations

import gzip
import zlib

from edgeq.errors import InvalidRequestError, TooLargeError

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # zlib's codes for the two containers


def decompress(encoding: str, body: bytes | bytearray, max_bytes: int) -> bytes | bytearray:
    """Undo Content-Encoding.

    Raises:
        TooLargeError: the content is over `max_bytes`.
        InvalidRequestError: it is compressed in an unknown way, or damaged.
    """
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
    if len(content) > max_bytes:
        raise TooLargeError(
            f"the body has {len(content)} bytes or more; at most {max_bytes} are taken",
            hint="Send tensors as binary data, or raise server.max_body_bytes.",
        )
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


def accepts(accepted: str, coding: str) -> bool:
    """Say whether an Accept-Encoding takes a coding."""
    return coding in _acceptable(accepted)


def _acceptable(accepted: str) -> list[str]:
    """Return the codings of an Accept-Encoding that `q=0` does not refuse, gzip first."""
    codings = []
    for part in accepted.lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, weight = parameter.partition("=")
        if name.strip() != "q" or weight.strip().strip("0."):
            codings.append(coding.strip())
    return sorted(codings, reverse=True)
