"""Broken and hostile HTTP/2 by hand: what is answered, that the others are served, and the log."""

from __future__ import annotations

import contextlib
import gzip
import logging
import struct
from typing import Any

import grpc
import pytest

from edgeq.serve.grpc.library_log import LOGGER, ClientsFaults
from edgeq.serve.grpc.schema import RPCS, SERVICE
from edgeq.serve.rights import Rights
from tests.serve.conftest import TOKEN
from tests.serve.grpc.conftest import Serving, StartGrpc
from tests.serve.grpc.test_limits import SlowClient
from tests.serve.grpc.test_refusals import infer_request, refused
from tests.serve.grpc.test_stream import eventually

END = 0x1  # of a stream
HEALTH = ("ServerLive", "ServerReady")


def framed(message: bytes, *, flag: int = 0, size: int | None = None) -> bytes:
    return bytes([flag]) + struct.pack(">I", len(message) if size is None else size) + message


def is_served(serving: Serving) -> bool:
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        return bool(method(infer_request(), timeout=10))


def answer(serving: Serving, content: bytes, expected: bytes, **extra: str) -> None:
    """Send a call's message, and wait for what it is told."""
    client = SlowClient(serving, calls=False)
    try:
        client.call(**{name.replace("_", "-"): value for name, value in extra.items()})
        client.frame(0, END, 1, content)
        client.received(expected)
    finally:
        client.close()


@pytest.mark.parametrize("content", [b"\0\0", framed(infer_request(), size=5000)])
def test_half_a_message_is_no_message(serving: Serving, content: bytes) -> None:
    answer(serving, content, b"the call brought no message; one is expected")
    assert serving.records == []


@pytest.mark.parametrize("size", [0xFFFFFFFF, 2 << 20])
def test_a_message_that_says_it_is_too_large_is_refused_before_it_comes(
    serving: Serving, size: int
) -> None:
    answer(serving, framed(b"", size=size), b"Received message larger than max")


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(infer_request(), mtime=0)[:-6],
        gzip.compress(b"", mtime=0) + b"more",
        b"no gzip",
    ],
    ids=["cut", "followed", "none"],
)
def test_a_damaged_compressed_message_is_never_a_request(serving: Serving, content: bytes) -> None:
    answer(serving, framed(content, flag=1), b"Decompression failed", grpc_encoding="gzip")
    assert serving.records == []
    assert is_served(serving)


@pytest.mark.parametrize("timeout", ["0n", "0S"])
def test_a_deadline_that_has_passed_holds_nothing_up(serving: Serving, timeout: str) -> None:
    client = SlowClient(serving, calls=False)
    client.call(**{"grpc-timeout": timeout})  # gRPC's core mostly says so, or just forgets the call
    client.frame(0, END, 1, framed(infer_request()))
    assert is_served(serving)
    client.close()
    eventually(lambda: not serving.frontend._gate._inside)


@pytest.mark.parametrize("timeout", ["-1S", "abc", "S", "1x", "+5S"])
def test_a_deadline_that_is_none_is_refused(serving: Serving, timeout: str) -> None:
    expected = b"Error parsing 'grpc-timeout' metadata"
    answer(serving, framed(infer_request()), expected, grpc_timeout=timeout)
    assert serving.records == []


def test_calls_that_are_reset_as_fast_as_they_come_leave_nothing(serving: Serving) -> None:
    client = SlowClient(serving, calls=False)
    for number in range(300):
        client.call(stream=2 * number + 1)
        client.frame(3, 0, 2 * number + 1, struct.pack(">I", 8))  # RST_STREAM: cancelled
    assert is_served(serving)
    client.close()
    eventually(lambda: not serving.frontend._gate._inside)
    assert serving.frontend._gate._held_bytes == 0


def test_metadata_beyond_the_bound_is_refused(serving: Serving) -> None:
    many = [(f"x{number}", "y" * 1000) for number in range(80)]
    error = refused(serving, "ServerLive", b"", metadata=many)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("frame", [(5, 4, 1, b"\0\0\0\2"), (4, 0, 0, b"abc"), (9, 4, 1, b""),
                                   (8, 0, 0, bytes(4)), (0, 1, 1, b"early")])  # fmt: skip
def test_frames_out_of_place_disturb_nobody(
    serving: Serving, frame: tuple[int, int, int, bytes]
) -> None:
    client = SlowClient(serving, calls=False)
    client.frame(*frame)
    assert is_served(serving)
    client.close()


# ---- who may, and what the log says


def test_a_stranger_is_told_health_and_nothing_else(start_grpc: StartGrpc) -> None:
    serving = start_grpc(rights=Rights(token=TOKEN, is_exposed=True))
    with grpc.insecure_channel(serving.address) as channel:
        for rpc in RPCS:
            assert status(channel, rpc.name, ()) == ("OK" if rpc.name in HEALTH else
                                                     "UNAUTHENTICATED"), rpc.name  # fmt: skip
        for given in (f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer "):
            assert status(channel, "ModelInfer", [given]) == "UNAUTHENTICATED"
        assert status(channel, "ModelInfer", [f"Bearer {TOKEN}", "Bearer x"]) == "UNAUTHENTICATED"
        assert status(channel, "ModelInfer", [f"Bearer {TOKEN}"]) == "OK"
    assert [record.code for record in serving.records] == ["OK"]


def status(channel: Any, name: str, given: Any) -> str:
    metadata = [("authorization", each) for each in given]
    call = channel.stream_stream(f"/{SERVICE}/{name}")
    answers = call(iter([infer_request()]), timeout=10, metadata=metadata)
    with contextlib.suppress(grpc.RpcError):
        list(answers)
    assert TOKEN not in answers.details()
    return str(answers.code().name)


def test_neither_a_token_that_is_no_text_nor_a_client_that_left_is_in_the_log(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    client = SlowClient(serving, calls=False)
    client.call(authorization="Bearer secret-\xff")
    client.frame(0, END, 1, framed(infer_request()))
    client.received(b"x-edgeq-engine")
    client.close()
    assert "secret" not in caplog.text
    told = ClientsFaults()
    told.install()
    logger = logging.getLogger(LOGGER)
    try:
        logger.error("ExecuteBatchError raised in core by servicer method [/a/b]")
        logger.error("Invalid encoding on %s", b"Bearer secret")
        assert caplog.text == ""
    finally:
        told.remove()
