from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import InvalidRequestError, RequestError, TooLargeError
from edgeq.serve.http.content import compress, decompress

ENCODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_compressed_bodies_are_read(encoding: str) -> None:
    body = ENCODERS[encoding](b"hello")
    assert decompress(f" {encoding.upper()} ", body, 5) == b"hello"


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_bomb_stops_at_the_limit(encoding: str) -> None:
    bomb = ENCODERS[encoding](bytes(50_000_000))
    with pytest.raises(TooLargeError, match="has 1001 bytes or more; at most 1000"):
        decompress(encoding, bomb, 1000)


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("br", b"", "Content-Encoding is 'br'; gzip, deflate or none"),
        ("gzip, gzip", b"", "Content-Encoding is 'gzip, gzip'"),
        ("gzip", b"plain", "the body is not gzip"),
        ("gzip", b"", "stream ends early"),
        ("gzip", gzip.compress(b"hello", mtime=0)[:-3], "the body's gzip stream ends early"),
        ("deflate", zlib.compress(b"hello") + b"x", "deflate stream goes on after its end"),
        ("deflate", gzip.compress(b"hello", mtime=0), "the body is not deflate"),
    ],
)
def test_damaged_or_unknown_compression_is_refused(
    encoding: str, body: bytes, message: str
) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        decompress(encoding, body, 1000)


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 59), st.sampled_from(sorted(ENCODERS)))
def test_damaged_streams_never_raise_anything_else(content: bytes, at: int, encoding: str) -> None:
    body = bytearray(ENCODERS[encoding](content))
    body[at % len(body)] ^= 0x41
    try:
        got = decompress(encoding, bytes(body), 1000)
    except RequestError:
        return
    assert isinstance(got, bytes)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate, gzip;q=0.5", "gzip"),
        ("GZIP ; q=1.0", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=0.000", ""),
        ("identity", ""),
        ("br", ""),
        ("", ""),
    ],
)
def test_the_response_is_compressed_as_the_client_asks(accepted: str, encoding: str) -> None:
    body, used = compress(accepted, b"hello")
    assert used == encoding
    assert decompress(used, body, 100) == b"hello"
