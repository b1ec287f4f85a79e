"""Heads that the parser reads, and that two servers could read in two ways."""

from __future__ import annotations

import contextlib

import httptools
import pytest

from edgeq.errors import InvalidRequestError
from edgeq.serve.http.framing import Head, HeadReader, check_head, target_of

HOST = {b"host": b"box"}


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "host",
    [b"box", b"box:8000", b"127.0.0.1:8000", b"[::1]:8000", b"[::1]", b"", b"a_b.c-d", b"box:"],
)
def test_usual_heads_are_taken(version: str, host: bytes) -> None:
    check_head(version, {b"host": host, b"content-length": b"3", b"x": b"\xff"})


def test_http_1_0_needs_no_host_and_1_1_may_be_chunked() -> None:
    check_head("1.0", {})
    check_head("1.1", {**HOST, b"transfer-encoding": b"Chunked"})


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_another_version_is_refused(version: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"this is HTTP/{version}; HTTP/1\.1 or 1\.0"):
        check_head(version, HOST)


def test_http_1_1_without_a_host_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="has no Host"):
        check_head("1.1", {})


@pytest.mark.parametrize(
    "host", [b"a, b", b"a, a", b", ", b"a b", b"a/b", b"a@b", b"a:b", b"a:123456", b"\xff", b"[x]"]
)
def test_two_hosts_or_what_is_none_are_refused(host: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"Host is .*; one name or address is expected"):
        check_head("1.1", {b"host": host})


@pytest.mark.parametrize(
    "coding", [b"identity, chunked", b"gzip, chunked", b"gzip", b"identity", b"", b"chunked\t"]
)
def test_a_coding_besides_chunked_is_refused(coding: bytes) -> None:
    with pytest.raises(InvalidRequestError, match=r"Transfer-Encoding is .*; chunked alone"):
        check_head("1.1", {**HOST, b"transfer-encoding": coding})


def test_chunks_in_http_1_0_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"which HTTP/1\.0 does not know"):
        check_head("1.0", {b"transfer-encoding": b"chunked"})


def head_of(text: bytes, reader: HeadReader | None = None) -> Head:
    """Read a head as a connection does."""
    found: list[Head] = []
    headers: dict[bytes, bytes] = {}

    class Calls:
        def on_header(self, name: bytes, value: bytes) -> None:
            headers[name.lower()] = value

        def on_headers_complete(self) -> None:
            found.append((reader or HeadReader(1000)).read(parser, b"/x?y", headers))

    parser = httptools.HttpRequestParser(Calls())
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(text)
    return found[0]


@pytest.mark.parametrize(
    ("version", "lines", "waits"),
    [
        (b"1.1", b"Expect: 100-continue\r\nContent-Length: 5", True),
        (b"1.1", b"Expect: 100-Continue\r\nTransfer-Encoding: chunked", True),
        (b"1.1", b"Expect: 100-continue", False),  # there is nothing to send
        (b"1.0", b"Expect: 100-continue\r\nContent-Length: 5", False),
        (b"1.1", b"Expect: 200-ok\r\nContent-Length: 5", False),
        (b"1.1", b"Content-Length: 5", False),
    ],
)
def test_who_waits_to_be_told_to_go_on(version: bytes, lines: bytes, waits: bool) -> None:
    head = head_of(b"POST / HTTP/%s\r\nHost: a\r\n%s\r\n\r\n" % (version, lines))
    assert (head.path, head.query, head.waits_for_continue) == ("/x", "y", waits)


def test_chunks_before_another_protocol_are_refused() -> None:
    text = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
    assert head_of(text + b"Content-Length: 3\r\n\r\n").announced == 3
    with pytest.raises(httptools.HttpParserError):
        head_of(text + b"Transfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        (b"/v2/../x?a=b?c#d", "/v2/../x", "a=b?c"),
        (b"/a#b?c", "/a", ""),
        (b"//v2", "//v2", ""),
        (b"/%2e%2e/%00", "/%2e%2e/%00", ""),
        (b"http://box/v2?x", "/v2", "x"),
        (b"HTTP://box:1", "/", ""),
        (b"https://u:p@box/v2#z", "/v2", ""),
    ],
)
def test_a_path_or_a_whole_url_leads_somewhere(url: bytes, path: str, query: str) -> None:
    assert target_of(url) == (path, query)


@pytest.mark.parametrize(
    "url", [b"*", b"box:443", b"ftp://box/v2", b"http:///v2", b"http://box:99999999/", b"v2", b""]
)
def test_any_other_target_is_refused(url: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="a path or an http URL is expected"):
        target_of(url)


def test_the_parser_does_refuse_what_this_relies_on() -> None:
    for head in (b"Content-Length: 1\r\nTransfer-Encoding: chunked", b"A : b", b"A: b\r\n c: d",
                 b"Content-Length: 1\r\nContent-Length: 1", b"A: \0", b"A: b\nB: c"):  # fmt: skip
        with pytest.raises(httptools.HttpParserError):
            httptools.HttpRequestParser(object()).feed_data(b"GET / HTTP/1.1\r\n" + head + b"\r\n")


def test_a_head_is_remembered_as_long_as_it_is_repeated() -> None:
    reader = HeadReader(1000)
    first = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    head = head_of(first, reader)
    assert head_of(first, reader) is head
    assert head_of(first.replace(b": 3", b": 4"), reader).announced == 4
    assert head_of(first, reader) == head


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"HTTP/1.0\r\nContent-Length: 0", b"HTTP/1.1\r\nContent-Length: 0", "no Host"),
        (b"HTTP/1.1\r\nHost: a", b"HTTP/1.1\r\nHost: a, b", "one name or address"),
        (b"HTTP/1.1\r\nHost: a", b"HTTP/1.1\r\nHost: a\r\nX: " + bytes([120]) * 999, "over 1000"),
    ],
)
def test_another_head_on_the_same_connection_is_looked_at(
    before: bytes, after: bytes, message: str
) -> None:
    reader = HeadReader(1000)
    head_of(b"GET / %s\r\n\r\n" % before, reader)
    with pytest.raises(httptools.HttpParserCallbackError) as caught:
        head_of(b"GET / %s\r\n\r\n" % after, reader)
    assert isinstance(caught.value.__context__, InvalidRequestError)
    assert message in caught.value.__context__.message
