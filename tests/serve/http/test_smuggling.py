"""Requests that two servers could read in two ways: one answer each, and nothing behind it runs.

Every case is followed, on the same connection and in the same bytes, by a whole request for the
model. Where the framing is in doubt the answer is 400, the connection closes, and that request is
never run.
"""

from __future__ import annotations

import gzip
import json
import socket
import time
from typing import Any

import pytest

from tools.fuzzing.answers import Answer, check_answer, read_answers

BODY = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
POST = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n"
BEHIND = POST + LENGTH + b"\r\n" + BODY
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
OLD = POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n"


def coded(coding: bytes) -> bytes:
    return POST + b"Transfer-Encoding:" + coding + b"\r\n\r\n" + CHUNKS


def long(length: bytes) -> bytes:
    return POST + b"Content-Length: " + length + b"\r\n\r\n" + BODY


def sized(size: bytes, end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return POST + CHUNKED + b"\r\n" + size + b"\r\n" + BODY + end


IN_DOUBT = {
    "a length and chunks": POST + b"Content-Length: 3\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "chunks and a length": POST + CHUNKED + b"Content-Length: 3\r\n\r\n" + CHUNKS,
    "two lengths, the same": POST + LENGTH + LENGTH + b"\r\n" + BODY,
    "two lengths": POST + LENGTH + b"Content-Length: 1\r\n\r\n" + BODY,
    "a list of lengths": long(b"74, 74"),
    **{f"length {length!r}": long(length) for length in
       (b"-1", b"+74", b"0x4a", b"7 4", b"7.4", b"", b"9" * 30, b"18446744073709551616",
        b"\xd9\xa3", b"74;", b"1e2")},
    **{f"coding {coding!r}": coded(coding) for coding in
       (b" xchunked", b" identity", b" chunked, identity", b" identity, chunked", b" gzip, chunked",
        b" chunked, chunked", b" chunked\t", b" \x0bchunked", b' "chunked"', b" chunked;q=1", b"",
        b" gzip", b" chunked\r\nTransfer-Encoding: chunked", b"\r\n chunked",
        b" chunked\r\nTransfer-Encoding: identity")},
    "no coding and a length": POST + b"Transfer-Encoding: \r\n" + LENGTH + b"\r\n" + BODY,
    "chunks in HTTP/1.0": OLD + CHUNKED + b"\r\n" + CHUNKS,
    **{f"chunk size {size!r}": sized(size) for size in
       (b"f" * 17, b"-4", b"0x4a", b"4a ", b" 4a", b"4a\t", b"4a;a\nb", b"4a;a\rb", b"+4a", b"")},
    "a chunk that ends in LF": sized(b"4a", b"\n0\r\n\r\n"),
    "a chunk that ends elsewhere": sized(b"4a", b"XX0\r\n\r\n"),
    "a chunk size that ends in LF": POST + CHUNKED + b"\r\n4a\n" + BODY + b"\r\n0\r\n\r\n",
    "a length behind chunks": sized(b"4a", b"\r\n0\r\nContent-Length: 5\r\n\r\n"),
    "a coding behind chunks": sized(b"4a", b"\r\n0\r\n" + CHUNKED + b"\r\n"),
    "LF for CRLF": GET.replace(b"\r\n", b"\n") + b"\n",
    "LF after the line": b"GET /v2/health/live HTTP/1.1\nHost: x\r\n\r\n",
    "LF after a header": GET + b"A: b\nB: c\r\n\r\n",
    "LF after the head": GET + b"\n",
    "CR in a header": GET + b"A: b\rB: c\r\n\r\n",
    "CR after the head": GET + b"\r",
    "a folded header": GET + b"A: b\r\n c\r\n\r\n",
    "a folded first header": b"GET /v2/health/live HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a value": GET + b"A: b\0c\r\n\r\n",
    "NUL in a name": GET + b"A\0: b\r\n\r\n",
    "NUL in the path": b"GET /v2/health/live\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 74\r\n\r\n" + BODY,
    "a tab before the colon": POST + b"Content-Length\t: 74\r\n\r\n" + BODY,
    "no colon": GET + b"nonsense\r\n\r\n",
    "no name": GET + b": x\r\n\r\n",
    "a control character": GET + b"A: \x01\r\n\r\n",
    "a space before the method": b" " + GET + b"\r\n",
    "a space in the path": b"GET /v2/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of 8 bits": b"GET /v2/models/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /v2/health/live\r\n\r\n",
    **{f"version {version!r}": b"GET /v2/health/live %s\r\nHost: x\r\n\r\n" % version for version in
       (b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0", b"http/1.1", b"HTTP/1.1 ")},
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "no host": b"GET /v2/health/live HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "a host twice": GET + b"Host: x\r\n\r\n",
    "a host that is none": b"GET /v2/health/live HTTP/1.1\r\nHost: a b/..\r\n\r\n",
    **{f"target {target!r}": b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target for target in
       (b"x:80", b"*", b"ftp://x/v2", b"http:///v2", b"http://x:99999999/", b"v2/health/live")},
    "a tunnel": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol and chunks": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CHUNKED
                                   + b"\r\n" + CHUNKS,
    "too many headers": GET + b"".join(b"a%d: b\r\n" % n for n in range(12_000)) + b"\r\n",
    "a header too often": GET + b"a:b\r\n" * 25_000 + b"\r\n",
    "a path that is too long": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a trailer that is too long": sized(b"4a", b"\r\n0\r\nA: "),
}  # fmt: skip


def exchange(running: Any, *sent: bytes, most: int = 0) -> tuple[tuple[Answer, ...], bool]:
    """Send, and read until the server hangs up, or has said `most`; tells whether it hung up."""
    said, is_closed = b"", False
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        try:
            for piece in sent:
                client.sendall(piece)
                time.sleep(0.02 * (len(sent) > 1))
            while not is_closed:
                if most and len(read_answers(said).answers) >= most:
                    client.settimeout(0.02)  # nothing more is to come
                piece = client.recv(65536)
                said, is_closed = said + piece, not piece
        except TimeoutError:
            assert most, f"neither closed nor answered after {said[-300:]!r}"
        except ConnectionError:
            is_closed = True
    read = read_answers(said)
    assert read.rest == b"", said[-300:]
    for answer in read.answers:
        check_answer(answer)
    return read.answers, is_closed


@pytest.mark.parametrize("name", IN_DOUBT)
def test_what_two_servers_could_read_in_two_ways_ends_the_connection(
    running: Any, name: str
) -> None:
    rest = b"a" * 70_000 if name.startswith("a trailer") else b""
    answers, is_closed = exchange(running, IN_DOUBT[name] + rest, rest + BEHIND)
    assert [answer.status for answer in answers] == [400]
    assert answers[0].is_last
    assert is_closed
    assert running.plane.submitted == []
    assert b"callback" not in answers[0].body  # the parser's own words are none


WHOLE = {
    "a length with zeros": (long(b"00074"), 200),
    "a length with spaces": (long(b" \t74\t "), 200),
    "chunked after a tab": (coded(b"\tchunked"), 200),
    "chunked in capitals": (POST + b"tRANSFER-eNCODING: ChUnKeD\r\n\r\n" + CHUNKS, 200),
    "another header's name": (POST + b"Transfer_Encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY,
                              200),
    "chunk extensions": (sized(b'4a;a=b;c="d"', b"\r\n0;e\r\n\r\n"), 200),
    "trailers": (sized(b"4a", b"\r\n0\r\nContent-Encoding: gzip\r\nExpect: 100-continue\r\n"
                              b"Inference-Header-Content-Length: 7\r\nHost: y\r\n\r\n"), 200),
    "HTTP/1.0": (OLD + LENGTH + b"\r\n" + BODY, 200),
    "a length of nothing": (POST + b"Content-Length: 0\r\n\r\n", 400),
    "a body of GET": (GET + LENGTH + b"\r\n" + BODY, 200),
    "a whole URL": (b"GET http://elsewhere:1/v2/health/live?a#b HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "no host in HTTP/1.0": (b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "an empty host": (b"GET /v2/health/live HTTP/1.1\r\nHost:\r\n\r\n", 200),
    "CRLF before a request": (b"\r\n\r\n" + GET + b"\r\n", 200),
    "a value of 8 bits": (GET + b"A: \xff\xfe\r\n\r\n", 200),
    "another expectation": (POST + b"Expect: 200-ok\r\n" + LENGTH + b"\r\n" + BODY, 200),
    "dots": (b"GET /v2/../v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "dots in disguise": (b"GET /edgeq/page/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "NUL in disguise": (b"GET /v2/models/echo%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "bytes in disguise": (b"GET /v2/models/%zz%ff%c0%ae HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "two slashes": (b"GET //v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "another method": (b"TRACE /v2 HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n", 405),
    "two codings": (POST + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n" + LENGTH
                    + b"\r\n" + BODY, 400),
    "no gzip": (POST + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY, 400),
    **{f"JSON of {length!r}": (POST + b"Inference-Header-Content-Length: %s\r\n" % length + LENGTH
                               + b"\r\n" + BODY, 400)
       for length in (b"-1", b"75", b"+5", b"9" * 30, b"3", b"\xb2", b"0x4a", b"")},
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_one_end_is_answered_and_so_is_what_follows(running: Any, name: str) -> None:
    sent, status = WHOLE[name]
    answers, is_closed = exchange(running, sent + BEHIND, most=2)
    assert [answer.status for answer in answers] == [status, 200]
    assert b"secret" not in answers[0].body
    assert not is_closed
    assert running.plane.submitted[-1][0] == "echo"


@pytest.mark.parametrize(
    "closing",
    [b"Connection: close\r\n", b"Connection: x, CLOSE\r\n", b"Connection: close, keep-alive\r\n",
     b"Connection: keep-alive\r\nConnection: close\r\n",
     b"Connection: Upgrade\r\nUpgrade: websocket\r\n"],
)  # fmt: skip
def test_nothing_is_run_behind_the_last_request(running: Any, closing: bytes) -> None:
    answers, is_closed = exchange(running, GET + closing + b"\r\n" + BEHIND)
    assert [answer.status for answer in answers] == [200]
    assert answers[0].is_last
    assert is_closed
    assert running.plane.submitted == []


def test_what_is_too_large_is_refused_before_it_comes(running: Any) -> None:
    for length in (b"18446744073709551615", b"4294967296", b"1048577"):
        for expect in (b"", b"Expect: 100-continue\r\n"):
            head = POST + expect + b"Content-Length: " + length + b"\r\n\r\n"
            answers, is_closed = exchange(running, head + BEHIND)
            assert [answer.status for answer in answers] == [413]
            assert is_closed
    assert running.plane.submitted == []


def test_a_small_body_that_grows_is_refused_at_its_bound(running: Any) -> None:
    packed = gzip.compress(bytes(100 << 20))
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    for sent, status in ((head + packed, 413), (head + packed[:-9] + b"x" * 9, 413)):
        answers, _ = exchange(running, sent, most=1)
        assert [answer.status for answer in answers] == [status]
    cut = gzip.compress(BODY)[:-5]
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(cut)
    answers, _ = exchange(running, head + cut + BEHIND, most=2)
    assert [answer.status for answer in answers] == [400, 200]


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_body_after_a_wish_for_another_protocol_is_read(running: Any, pieces: int) -> None:
    """As Java's own client sends its first request."""
    head = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    behind = BEHIND if pieces == 1 else b""  # sent to a closed connection it would cost the answer
    text = head + LENGTH + b"\r\n" + BODY + behind
    step = -(-len(text) // pieces)
    parts = [text[at : at + step] for at in range(0, len(text), step)]
    answers, is_closed = exchange(running, *parts)
    assert [answer.status for answer in answers] == [200]
    assert json.loads(answers[0].body)["outputs"][0]["data"] == [1, 2, 3, 4]
    assert is_closed
    assert len(running.plane.submitted) == 1


def test_a_client_is_told_to_go_on_after_the_answers_before_it(running: Any) -> None:
    waiting = POST + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n"
    answers, _ = exchange(running, BEHIND + waiting, BODY, most=3)
    assert [answer.status for answer in answers] == [200, 100, 200]
    answers, _ = exchange(running, waiting.replace(b"1.1", b"1.0") + BODY)
    assert [answer.status for answer in answers] == [200]


def test_many_small_chunks_are_a_body_and_endless_words_around_them_are_not(running: Any) -> None:
    single = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    padded = json.dumps({**json.loads(BODY), "id": "x" * 30_000}).encode()
    many = b"".join(b"1\r\n%c\r\n" % byte for byte in padded)
    for chunks in (single, many):
        sent = POST + CHUNKED + b"\r\n" + chunks + b"0\r\n\r\n"
        answers, _ = exchange(running, sent[:1000], sent[1000:], most=1)
        assert [answer.status for answer in answers] == [200]
    wordy = POST + CHUNKED + b"\r\n" + b"1;" + b"x" * 200
    answers, is_closed = exchange(running, wordy, b"x" * 70_000, b"\r\n{\r\n" + BEHIND)
    assert [answer.status for answer in answers] == [400]
    assert is_closed
    assert len(running.plane.submitted) == 2


def test_a_head_in_the_shadow_of_large_requests_is_not_too_large(running: Any) -> None:
    padded = json.dumps({**json.loads(BODY), "id": "x" * 150_000}).encode()
    large = POST + b"Content-Length: %d\r\n\r\n" % len(padded) + padded
    answers, _ = exchange(running, large + BEHIND[:40], BEHIND[40:], most=2)
    assert [answer.status for answer in answers] == [200, 200]
