"""A request's head -> where it leads; or why two servers could read it in two ways (RFC 9112).

The parser refuses what it cannot read: two lengths, a length and chunks, bare LF or CR, folded
lines, NUL, white space before a colon. What it reads, and another server might read otherwise, is
refused here: behind a proxy the difference is a request that only one of the two has seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import httptools

from edgeq.errors import InvalidRequestError
from edgeq.serve.tensors import quoted

VERSIONS = ("1.1", "1.0")
# A name, an IPv4 address, or an IPv6 one in brackets, and a port; no comma, so not two of them.
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(:[0-9]{0,5})?")

Headers = Mapping[bytes, bytes]


class Head(NamedTuple):
    """What a whole head asks; `announced` bytes of body, 0 where it is chunked or absent."""

    path: str
    query: str
    announced: int
    waits_for_continue: bool  # the client sends its body only once it was told to go on


class HeadReader:
    """Holds the heads of one connection against what they may be.

    A client mostly repeats its head: then it is not looked at again, 0.8 us instead of 3.4, and 7
    instead of 16 in a server that has just woken.

    Args:
        limit: of a head's bytes, as they are held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: tuple[str, bytes, Headers, Head] | None = None

    def read(self, parser: httptools.HttpRequestParser, url: bytes, headers: Headers) -> Head:
        """Return what a head asks.

        Args:
            parser: which has just read it.
            url: the request's target.
            headers: by lower-case name, repeated ones joined by commas; not to be changed.

        Raises:
            InvalidRequestError: it is too large, or not as `check_head` and `target_of` want it.
        """
        version, known = parser.get_http_version(), self._known
        if known is not None and known[:3] == (version, url, headers):
            return known[3]
        head = _read_head(parser, url, headers, self._limit)
        if b"transfer-encoding" not in headers:  # where it is, the parser's state counts, too
            self._known = version, url, headers, head
        return head


def _read_head(
    parser: httptools.HttpRequestParser, url: bytes, headers: Headers, limit: int
) -> Head:
    if len(url) + sum(map(len, headers)) + sum(map(len, headers.values())) > limit:
        raise InvalidRequestError(f"the request's head is over {limit} bytes")
    version = parser.get_http_version()
    check_head(version, headers)
    if b"transfer-encoding" in headers and parser.should_upgrade():
        raise InvalidRequestError("the request asks for another protocol and has a chunked body")
    path, query = target_of(url)
    announced = int(headers.get(b"content-length", b"0"))  # digits: the parser has seen to that
    waits = b"expect" in headers and _waits_for_continue(version, headers, announced)
    return Head(path, query, announced, waits)


def _waits_for_continue(version: str, headers: Headers, announced: int) -> bool:
    """In HTTP/1.0 nobody waits, nor does who has nothing to send."""
    has_body = announced > 0 or b"transfer-encoding" in headers
    return has_body and version != "1.0" and headers[b"expect"].lower() == b"100-continue"


def check_head(version: str, headers: Headers) -> None:
    """Hold a head against what its framing may be.

    Args:
        version: of HTTP, as `1.1`; the parser takes 0.9 and 2.0, too.
        headers: by lower-case name, repeated ones joined by commas.

    Raises:
        InvalidRequestError: the version is another, the body's end is in doubt, or the host is.
    """
    if version not in VERSIONS:
        raise InvalidRequestError(f"this is HTTP/{version}; HTTP/1.1 or 1.0 is expected")
    if b"transfer-encoding" in headers:
        _check_coding(version, headers[b"transfer-encoding"])
    host = headers.get(b"host")
    if host is None:
        if version != "1.0":
            raise InvalidRequestError("the request has no Host; HTTP/1.1 asks for one")
    elif HOST.fullmatch(host) is None:
        raise InvalidRequestError(f"Host is {_shown(host)}; one name or address is expected")


def _check_coding(version: str, coding: bytes) -> None:
    """A proxy that does not know a coding takes the body's end for another place."""
    if version == "1.0":
        raise InvalidRequestError("the request has Transfer-Encoding, which HTTP/1.0 does not know")
    if coding.lower() != b"chunked":
        raise InvalidRequestError(
            f"Transfer-Encoding is {_shown(coding)}; chunked alone is taken",
            hint="Compress with Content-Encoding: gzip.",
        )


def target_of(url: bytes) -> tuple[str, str]:
    """Return path and query of a request's target: a path, or a whole URL as proxies send it.

    Raises:
        InvalidRequestError: it is neither.
    """
    if url.startswith(b"/"):
        path, _, query = url.partition(b"#")[0].partition(b"?")
        return path.decode("latin-1"), query.decode("latin-1")
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise InvalidRequestError(_no_target(url)) from error
    if (parsed.schema or b"").lower() not in (b"http", b"https") or not parsed.host:
        raise InvalidRequestError(_no_target(url))
    return (parsed.path or b"/").decode("latin-1"), (parsed.query or b"").decode("latin-1")


def _no_target(url: bytes) -> str:
    return f"the request's target is {_shown(url)}; a path or an http URL is expected"


def _shown(value: bytes) -> str:
    return quoted(value.decode("latin-1"))
