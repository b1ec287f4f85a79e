"""A TCP connection whose TLS is not up yet -> the Connection that goes on with it.

Counted from the accept on. Left to asyncio, a connection begins only once its handshake has ended:
strangers could hold any number of them before.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from edgeq.serve.http import connection
from edgeq.serve.http.connection import Connection

# Of the farewell that TLS says: a client with an idle connection in its pool does not hear it, and
# asyncio would wait 30 s for its own. Python 3.10 has no such bound; there the server's grace is.
SHUTDOWN: Mapping[str, Any] = {"ssl_shutdown_timeout": 0.5} if sys.version_info >= (3, 11) else {}


class Owner(connection.Owner, Protocol):
    """What counts handshakes, too; `HttpFrontend` is it."""

    def begin(self, handshake: Handshake) -> bool:
        """Count a connection to be; False where it cannot stay."""

    def end(self, handshake: Handshake) -> None:
        """Stop counting it."""


class Handshake(asyncio.Protocol):
    """The handshake has as long as a request's head."""

    def __init__(self, owner: Owner, context: ssl.SSLContext) -> None:
        self._owner = owner
        self._context = context
        self._early = b""  # what came with the handshake's last message
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many: without TLS there is nobody to tell so."""
        assert isinstance(transport, asyncio.Transport), "of a stream"
        self._transport = transport
        if self._owner.begin(self):
            self._task = self._owner.loop.create_task(self._shake())
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Keep it until the connection is there, a turn of the loop later."""
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the client has gone."""
        self._is_lost = True
        self._owner.end(self)

    def abort(self) -> None:
        """Hang up."""
        self._transport.abort()

    async def _shake(self) -> None:
        owner = self._owner
        try:
            encrypted = await owner.loop.start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=owner.limits.header_timeout_s,
                **SHUTDOWN,
            )
        except OSError:  # no TLS, no certificate, too slow, gone: the transport is closed
            return
        finally:
            owner.end(self)
        if encrypted is None or self._is_lost:
            return
        begun = Connection(owner)
        encrypted.set_protocol(begun)
        begun.connection_made(encrypted)
        if self._early:
            begun.data_received(self._early)
