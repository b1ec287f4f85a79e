"""Calls -> a real server, several at once; every status is looked at."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from edgeq.serve.grpc.messages import Messages
from tools.fuzzing.grpc_calls import Call
from tools.fuzzing.http_side import Tally
from tools.fuzzing.mutation import mutate

AT_ONCE = 16
UNDEFINED = ("INTERNAL", "UNKNOWN", "DATA_LOSS", "ABORTED", "OUT_OF_RANGE", "ALREADY_EXISTS")
INTERNAL_ERROR = "internal error"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")
PING = bytes.fromhex("0000080600000000000102030405060708")
# HEADERS of stream 1: POST, http, a path; END_HEADERS, END_STREAM; literal fields without index.
HEADERS = bytes.fromhex("00001b0105000000018386") + b"\x04\x0f/inference.X/Yz" + bytes(8)


def call_all(calls: Sequence[Call], port: int, tally: Tally) -> None:
    """Make every call, and count its status."""
    with (
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        for call, (code, said) in zip(
            calls, threads.map(lambda each: _make(channel, each), calls), strict=True
        ):
            tally.statuses[code] += 1
            is_wrong = code in UNDEFINED or (call.is_right and code != "OK")
            if is_wrong or INTERNAL_ERROR in said:
                tally.faults.append(f"{code} {said[:300]!r} after {call!r:.1000}")


def _make(channel: Any, call: Call) -> tuple[str, str]:
    """Return the name of the status, and what was said with it."""
    options = {"metadata": call.metadata, "timeout": call.timeout_s}
    try:
        if call.is_stream:
            answers = channel.stream_stream(call.method, None, None)(iter(call.messages), **options)
            return "OK", " ".join(_errors(answers))
        channel.unary_unary(call.method, None, None)(call.messages[0], **options)
    except grpc.RpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


def _errors(answers: Iterable[bytes]) -> list[str]:
    kind = Messages()["ModelStreamInferResponse"]
    return [kind.FromString(answer).error_message for answer in answers]


def throw_frames(draw: random.Random, count: int, port: int) -> None:
    """Send damaged HTTP/2 over connections of its own, and hang up; nothing need come back."""
    corpus = [PREFACE + SETTINGS + PING, PREFACE + SETTINGS + HEADERS, PREFACE[:10]]
    for _ in itertools.repeat(None, count):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            try:
                client.sendall(mutate(draw, corpus))
            except ConnectionError:
                continue
