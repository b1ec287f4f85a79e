"""The bound: one asyncio.Protocol that finds two numbers in a request's head, and answers."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from protocol import HEADER_LENGTH, Work, answer, make_parser, make_work, response_head, shape_of

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
JSON_LENGTH = re.compile(rb"\r\n" + HEADER_LENGTH + rb": *(\d+)", re.IGNORECASE)
END = b"\r\n\r\n"


class BareProtocol(asyncio.Protocol):
    """One connection; requests one after the other, each with a body."""

    def __init__(self, work: Work, shape: list[int]) -> None:
        self._work, self._shape = work, shape
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(END)
        if end < 0:
            return
        head, body = bytes(self._received[:end]), end + len(END)
        length = LENGTH.search(head)
        size = body + (int(length[1]) if length else 0)
        if len(self._received) < size:
            return
        content = bytes(self._received[body:size])
        del self._received[:size]
        self._answer(head, content)

    def _answer(self, head: bytes, body: bytes) -> None:
        found = JSON_LENGTH.search(head)
        if found is None:  # a health check
            self._transport.write(response_head(0, 0))
            return
        told, output = answer(body, int(found[1]), self._work, self._shape)
        head = response_head(len(told) + len(output), len(told))
        self._transport.write(b"".join((head, told, output)))


async def serve() -> None:
    options = make_parser().parse_args()
    loop = asyncio.get_running_loop()
    work, shape = make_work(options.model), shape_of(options.shape)
    server = await loop.create_server(lambda: BareProtocol(work, shape), "127.0.0.1", options.port)
    if options.unix:
        await loop.create_unix_server(lambda: BareProtocol(work, shape), options.unix)
    await server.serve_forever()


asyncio.run(serve())
