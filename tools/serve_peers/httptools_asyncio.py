"""An asyncio.Protocol over httptools: the parser that uvicorn uses too, without its layers."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
from protocol import HEADER_LENGTH, Work, answer, make_parser, make_work, response_head, shape_of


class HttptoolsProtocol(asyncio.Protocol):
    """One connection; httptools calls `on_...` as it reads."""

    def __init__(self, work: Work, shape: list[int]) -> None:
        self._work, self._shape = work, shape
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body: list[bytes] = []
        self._header_length = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == HEADER_LENGTH:
            self._header_length = int(value)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._header_length:  # a health check
            self._transport.write(response_head(0, 0))
            return
        told, output = answer(b"".join(self._body), self._header_length, self._work, self._shape)
        head = response_head(len(told) + len(output), len(told))
        self._transport.write(b"".join((head, told, output)))


async def serve() -> None:
    options = make_parser().parse_args()
    loop = asyncio.get_running_loop()
    work, shape = make_work(options.model), shape_of(options.shape)
    server = await loop.create_server(
        lambda: HttptoolsProtocol(work, shape), "127.0.0.1", options.port
    )
    await server.serve_forever()


asyncio.run(serve())
