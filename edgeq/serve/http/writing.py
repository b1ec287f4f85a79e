"""An answer -> bytes on a connection's transport; and the hardest way to end one."""

from __future__ import annotations

import asyncio
import socket
import struct

from edgeq.serve.http.messages import Answer

JOINED_BYTES = 64 << 10  # up to this a copy is cheaper than a second system call
AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


def write_answer(
    transport: asyncio.Transport, answer: Answer, date: bytes, *, is_last: bool, with_body: bool
) -> None:
    """Write an answer, unless the connection is being closed.

    Args:
        transport: the connection's.
        answer: what to write.
        date: the header line.
        is_last: whether the answer says that the connection closes.
        with_body: False for the answer to HEAD.
    """
    if transport.is_closing():
        return
    size = answer.size
    head = answer.head(date, size, is_last=is_last)
    if not with_body or not size:
        transport.write(head)
    elif size <= JOINED_BYTES:
        transport.write(b"".join([head, *answer.parts]))
    else:
        transport.write(head)
        for part in answer.parts:
            transport.write(memoryview(part))


def reset(transport: asyncio.Transport) -> None:
    """Hang up, and have the kernel forget what it still holds for the client."""
    connection = transport.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    transport.abort()
