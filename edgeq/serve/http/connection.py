"""Bytes of one connection <-> requests and answers: HTTP/1.1 on httptools, bounded in every way.

Uvicorn alone, without a model, adds 0.05 to 0.1 ms to a request (p50 over a bare asyncio.Protocol,
same runs), httptools 0.01: a task, an ASGI scope and two messages for every request. Here an answer
that is ready at once is written at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable
from typing import Protocol

import httptools

from edgeq.errors import EdgeqError, InvalidRequestError, TimedOutError, TooLargeError
from edgeq.serve.http.answers import error_answer
from edgeq.serve.http.framing import HeadReader
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.http.writing import reset, write_answer
from edgeq.serve.limits import Limits
from edgeq.serve.rights import Peer

LINGER_S = 2.0
CHUNKING = 8  # bytes received for one of a body: a chunk of a single byte takes six
NEVER = float("inf")


class Owner(Protocol):
    """What all connections share; `HttpFrontend` is it."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    date: bytes  # the header line

    def handle(self, request: Request) -> Answer | Awaitable[Answer]:
        """Answer a request, at once or later; never raises."""

    def admit(self, connection: Connection) -> EdgeqError | None:
        """Count a new connection; returns why it cannot stay, or None."""

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection that is gone."""

    def reserve(self, size: int) -> EdgeqError | None:
        """Count bytes of a body against what all may hold together; returns why not, or None."""

    def release(self, size: int) -> None:
        """Give back what was reserved."""

    def is_closing(self, connection: Connection) -> bool:
        """True where an answer is the connection's last one."""

    def idle(self, connection: Connection) -> None:
        """Hear of a connection that stands between two requests."""


class Connection(asyncio.Protocol):
    """One client's connection.

    It answers one request at a time, in order; what was pipelined behind it waits, and the socket
    is not read meanwhile. `deadline` (of the loop's clock) is when the client is too late with
    what it is waited for: the owner then calls `expire`.
    """

    def __init__(self, owner: Owner, *, is_adopted: bool = False) -> None:
        self.deadline = NEVER
        self._owner = owner
        self._limits = owner.limits
        self._loop = owner.loop
        self._parser = httptools.HttpRequestParser(self)
        self._heads = HeadReader(owner.limits.max_header_bytes)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._asked: Request | None = None  # what the task answers
        self._is_adopted = is_adopted  # after requests that another process answered
        self._is_busy = False  # with a request that is not answered yet
        self._is_receiving = False  # a request has begun and not ended
        self._is_in_head = False
        self._is_deaf = False  # refused or closing: what still comes is thrown away
        self._is_writable = True
        self._served = 0  # within one call of data_received
        self._unparsed = 0  # bytes of a body that the parser does not read
        self._waits_for_continue = False
        self._reserved = 0  # bytes of bodies counted against the owner's budget

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport), "of a stream"
        self._transport = transport
        connection = transport.get_extra_info("socket")
        is_unix = connection.family == socket.AF_UNIX
        if not is_unix:
            # asyncio does so itself, but nothing promises it, and without it a request costs 40 ms
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_plain = transport.get_extra_info("ssl_object") is None
        self._peer = Peer.of(transport)
        limits = self._limits
        self._wait(limits.idle_timeout_s if self._is_adopted else limits.header_timeout_s)
        if refusal := self._owner.admit(self):
            self._refuse(refusal)

    def data_received(self, data: bytes) -> None:
        """Parse what came; requests that end within it are answered or queued."""
        if self._is_deaf or self._take_unparsed(data):
            return
        self._served, self._has_ended = 0, False
        is_behind_head = self._is_receiving and not self._is_in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Its request is answered as if it had not asked, and is the last.
            self._take_unparsed(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if not self._is_deaf:
                self._refuse(InvalidRequestError(f"this is not HTTP/1.1: {error}"))
            return
        if (self._is_in_head or is_behind_head) and not self._has_ended:
            self._bound(len(data))

    def _bound(self, size: int) -> None:
        """Count what comes of a request that is not its body: its head, or chunks and trailers."""
        self._received += size
        limit, body = self._limits.max_header_bytes, CHUNKING * len(self._body)
        what = "head is" if self._is_in_head else "chunks and trailers are"
        if self._received > limit + body:
            self._refuse(InvalidRequestError(f"the request's {what} over {limit} bytes"))

    def _take_unparsed(self, data: bytes) -> bool:
        """Take the body of a request that asks for another protocol: the parser stops before it."""
        if not (self._unparsed and data):
            return False
        piece = data[: self._unparsed]
        self._unparsed -= len(piece)
        self.on_body(piece)
        if not self._unparsed:
            self.on_message_complete()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked: nobody is there to read the answer."""
        self._transport.close()  # it has gone; Python 3.10's TLS transport does not know
        self._is_deaf = True
        self.deadline = NEVER
        self._waiting.clear()
        if self._asked is not None:
            self._asked.is_abandoned = True
        self.cancel()
        self._release()
        self._owner.forget(self)

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answers."""
        self._is_writable = False
        self._wait(self._limits.write_timeout_s)

    def resume_writing(self) -> None:
        """Go on."""
        self._is_writable = True
        self._after_answer()

    # ---- the parser's calls

    def on_message_begin(self) -> None:
        """Start a request."""
        self._is_receiving = self._is_in_head = True
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._received = 0
        self._body: bytes | bytearray = b""
        if not self._is_busy:
            self._wait(self._limits.header_timeout_s)

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; what comes behind the body is none, whatever it is called."""
        if self._is_in_head:
            name = name.lower()
            before = self._headers.get(name)
            self._headers[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        """Refuse early what is in doubt or too large; tell a client that waits to go on."""
        self._is_in_head = False
        self._received = 0
        if self._is_deaf:
            return
        try:
            head = self._head = self._heads.read(self._parser, self._url, self._headers)
        except InvalidRequestError as error:
            self._refuse(error)
            return
        if not self._can_take(head.announced):
            return
        if self._parser.should_upgrade():
            self._unparsed = head.announced
        if not self._is_busy:
            self._wait(self._limits.body_timeout_s)
        self._waits_for_continue = head.waits_for_continue
        self._tell_to_continue()

    def _tell_to_continue(self) -> None:
        """Say so once the answers to the requests before it are sent."""
        if self._waits_for_continue and not (self._is_busy or self._waiting):
            self._waits_for_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        if self._is_deaf:
            return
        if not self._body:
            self._body = body  # mostly all of it
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            # Not a list of pieces: to join 6 MB of them took 10 ms of CPU instead of 0.6, and of
            # two bytes each they would take 25 times the memory that is counted.
            self._body = bytearray(self._body) + body
        if len(self._body) > self._reserved:
            self._can_take(len(self._body))

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for the one before it."""
        if self._unparsed and not self._is_deaf:
            return  # its body is still to come
        self._is_receiving, self._waits_for_continue, self._has_ended = False, False, True
        if self._is_deaf:
            return
        request = self._request()
        if self._is_busy or self._served or self._waiting:
            self._waiting.append(request)
            self._transport.pause_reading()
            if not self._is_busy:
                # One at a time for each turn of the loop: the others have their requests too.
                self._loop.call_soon(self._after_answer)
            return
        self._served += 1
        self._start(request)

    # ---- requests

    def _request(self) -> Request:
        head, parser = self._head, self._parser
        return Request(
            method=parser.get_method().decode("ascii"),
            path=head.path,
            query=head.query,
            headers=self._headers,
            body=self._body,
            peer=self._peer,
            max_body_bytes=self._limits.max_body_bytes,
            keep_alive=parser.should_keep_alive() and not parser.should_upgrade(),
        )

    def _can_take(self, size: int) -> bool:
        """Reserve memory for a body; refuses the request where it is too large or too much."""
        limit = self._limits.max_body_bytes
        if size > limit:
            error: EdgeqError | None = TooLargeError(
                f"the body has {size} bytes or more; at most {limit} are taken",
                hint="Send tensors as binary data, or raise server.max_body_bytes.",
            )
        else:
            error = self._owner.reserve(size - self._reserved)
        if error is not None:
            self._refuse(error)
            return False
        self._reserved = max(size, self._reserved)
        return True

    def _start(self, request: Request) -> None:
        self._is_busy = True
        self.deadline = NEVER  # the request has a deadline of its own
        outcome = self._owner.handle(request)
        if isinstance(outcome, Answer):
            self._send(request, outcome)
        else:
            self._asked = request
            self._task = self._loop.create_task(self._finish(request, outcome))

    async def _finish(self, request: Request, outcome: Awaitable[Answer]) -> None:
        answer = await outcome
        self._task = self._asked = None
        self._send(request, answer)

    def _send(self, request: Request, answer: Answer) -> None:
        is_last = not request.keep_alive or self._is_deaf or self._owner.is_closing(self)
        has_body, date = request.method != "HEAD", self._owner.date
        write_answer(self._transport, answer, date, is_last=is_last, with_body=has_body)
        if answer.on_sent is not None:
            answer.on_sent()
        self._is_busy = False
        self._release()
        if is_last:
            self._close()
        elif self._waiting:
            self._loop.call_soon(self._after_answer)
        else:
            self._after_answer()

    def _after_answer(self) -> None:
        """Go on with what was pipelined, or wait for the next request."""
        if self._is_busy or self._is_deaf or not self._is_writable:
            return
        if self._waiting:
            request = self._waiting.popleft()
            if self._waiting:
                self._loop.call_soon(self._after_answer)
            self._start(request)
            return
        self._transport.resume_reading()
        self._tell_to_continue()
        self._wait(
            self._limits.body_timeout_s if self._is_receiving else self._limits.idle_timeout_s
        )
        self._owner.idle(self)

    def _release(self) -> None:
        self._owner.release(self._reserved)
        self._reserved = 0

    # ---- ends

    def _wait(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds

    def expire(self) -> None:
        """End a connection whose client is too late."""
        if self._is_deaf or not self._is_writable:
            reset(self._transport)  # it does not read: it would not read this either
        elif self._is_receiving:
            part = "head" if self._is_in_head else "body"
            self._refuse(TimedOutError(f"the request's {part} did not arrive in time"))
        else:
            self._close()

    def _refuse(self, error: EdgeqError) -> None:
        """Answer what is no request, and hang up."""
        self._is_deaf = True
        if self._is_busy:
            return  # the one before it is answered, and is then the last
        self._release()
        answer, date = error_answer(error), self._owner.date
        write_answer(self._transport, answer, date, is_last=True, with_body=True)
        if self._transport.can_write_eof() and not self._transport.is_closing():
            # Closed while the client still sends, the connection would be reset, and the answer
            # lost with it: what comes is read and thrown away for a while.
            self._transport.write_eof()
            self._wait(LINGER_S)
        else:
            self._close()

    def _close(self) -> None:
        self._is_deaf = True
        self._wait(self._limits.write_timeout_s)
        self._transport.close()

    def cancel(self) -> None:
        """Give up the request that is being answered; that is its answer."""
        if self._task is not None:
            # Not at once: a task that was cancelled before its first step would never answer.
            self._loop.call_soon(self._task.cancel)

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    @property
    def is_idle(self) -> bool:
        """True at a request's boundary: nothing asked, nothing half read."""
        is_open = not self._is_deaf and self._is_writable
        return is_open and not (self._is_busy or self._is_receiving or self._waiting)

    def close_idle(self) -> None:
        """Hang up between two requests."""
        self._close()

    def is_flushed(self) -> bool:
        """True once the kernel has all answers; if not, the owner hears of it when it has."""
        self._transport.set_write_buffer_limits(0)
        return self._transport.get_write_buffer_size() == 0

    def park(self) -> socket.socket:
        """Let go of an idle connection without ending it, and return its socket.

        What the client sends meanwhile stays in the kernel's buffer, for whoever goes on reading.
        """
        kept: socket.socket = self._transport.get_extra_info("socket").dup()
        self._is_deaf = True
        self._transport.abort()
        return kept
