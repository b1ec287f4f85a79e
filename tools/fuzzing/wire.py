"""Bytes of a client -> what a connection answers, held to be HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable
from typing import Any

from edgeq.errors import EdgeqError
from edgeq.serve.http.connection import Connection
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.limits import Limits

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
EXPECTED = (b"100", b"200", b"400", b"408", b"413", b"503")


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._is_closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": SOCKET, "sockname": ("127.0.0.1", 1)}.get(name, default)

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    resume_reading = pause_reading


class _Owner:
    """Answers every request with what it asked."""

    limits = Limits()
    date = b"date: now\r\n"

    def __init__(self) -> None:
        self.loop = LOOP
        self.reserved = 0

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        return Answer(200, (request.path.encode("latin-1", "replace"), bytes(request.body)))

    def admit(self, connection: Connection) -> EdgeqError | None:
        return None

    def forget(self, connection: Connection) -> None:
        """Nothing is counted."""

    def reserve(self, size: int) -> EdgeqError | None:
        self.reserved += max(0, size)
        return None

    def release(self, size: int) -> None:
        self.reserved -= size

    def is_closing(self, connection: Connection) -> bool:
        return False

    def idle(self, connection: Connection) -> None:
        """Nothing waits for it."""


LOOP = asyncio.new_event_loop()
SOCKET = socket.socket()


def feed_connection(content: bytes) -> None:
    """Send it in two pieces, hang up, and look at every answer."""
    owner, transport = _Owner(), _Transport()
    connection = Connection(owner)
    connection.connection_made(transport)
    middle = len(content) // 2
    for piece in (content[:middle], content[middle:]):
        if piece and not transport.is_closing():
            connection.data_received(piece)
    LOOP.run_until_complete(asyncio.sleep(0))
    connection.connection_lost(None)
    statuses = STATUS.findall(bytes(transport.written))
    assert set(statuses) <= set(EXPECTED), f"answered {statuses}"
    assert bool(statuses) == bool(transport.written), "what was written is not HTTP"
    assert owner.reserved == 0, f"{owner.reserved} bytes stay reserved"
