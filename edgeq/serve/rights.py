"""A peer and what it asks for -> may it? One rule for HTTP and gRPC.

                      Unix   loopback TCP        TCP beyond loopback
    health            open   open                open
    use               open   open                token or client certificate; anonymous: open
    change models     open   open; or the token  the token; or a client certificate
                             that is configured  where no token is configured
    administer        open   token               token

- *health*: is the server live, is it ready. *Use*: infer, metadata, statistics, index, status page
  and `/edgeq/status` (they name models, versions and sizes). *Change models*: load and unload,
  which Triton leaves open, and registering shared memory. *Administer*: every `POST /edgeq/...`.
- Who may connect to the Unix socket is the file's mode: owner and group.
- Loopback is what the *server* listens on. On a server that others reach, a connection within the
  box proves nothing: behind a proxy or a mesh's sidecar everybody comes from 127.0.0.1.
- A web page is nobody: a browser on the box carries its requests to loopback, whoever wrote it, and
  names it in `Origin`; so it does to a Unix socket that ssh forwards to a port. Such a page can
  neither load, unload nor administer without the token.
- A client certificate counts where the server asked for one (`server.tls.client_ca_file`).
- Refused for want of a token that would open it: UnauthenticatedError (401, gRPC's
  UNAUTHENTICATED). Where no token is configured, none would: ForbiddenError (403,
  PERMISSION_DENIED).
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from dataclasses import dataclass
from enum import Enum

from edgeq.errors import ForbiddenError, UnauthenticatedError
from edgeq.serve.loopback import is_loopback_address
from edgeq.serve.token_file import TokenFile


class Purpose(Enum):
    """What kind of thing a request asks for; the value says it in an error."""

    HEALTH = "health check"
    USE = "request"
    CHANGE_MODELS = "change of models or shared memory"
    ADMINISTER = "admin call"


@dataclass(frozen=True)
class Peer:
    """The other end of a connection, as far as the server can know.

    Args:
        is_unix: the connection came over the Unix socket.
        is_loopback: it came to a loopback address of this box.
        has_client_certificate: the handshake verified one.
    """

    is_unix: bool
    is_loopback: bool
    has_client_certificate: bool = False

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Peer:
        """Read it from a connection's transport, of TCP or Unix, with or without TLS."""
        connection = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            return cls(is_unix=True, is_loopback=False)
        address = (transport.get_extra_info("sockname") or ("",))[0]
        # getpeercert() is empty unless the certificate was verified
        certificate = transport.get_extra_info("peercert")
        return cls(False, is_loopback_address(str(address)), bool(certificate))


@dataclass(frozen=True)
class Rights:
    """The rule, with what is configured.

    Args:
        token: the file it is read from, or the token itself; None where none is configured.
        is_anonymous: whoever reaches the port may use the models.
        is_exposed: the server listens beyond loopback.
    """

    token: TokenFile | str | None = None
    is_anonymous: bool = False
    is_exposed: bool = False

    def check(self, purpose: Purpose, peer: Peer, authorization: str, origin: str = "") -> None:
        """Refuse a call without the right to make it.

        Args:
            purpose: what kind of thing is asked for.
            peer: who asks.
            authorization: the header's value, or gRPC's metadata of that name; "" for none.
            origin: the header's value, which browsers send; "" for none.

        Raises:
            UnauthenticatedError: the token is absent or wrong.
            ForbiddenError: no token is configured that would open it.
        """
        if self.is_open(purpose, peer) or (peer.is_unix and not origin):
            return
        token = self._configured()
        if self._is_change_open(purpose, peer, token, origin) or _knows(token, authorization):
            return
        if not token:
            where = "from a web page" if peer.is_unix else "over TCP"
            raise ForbiddenError(
                f"the {purpose.value} {where} is refused: no token is configured",
                hint="Use `edgeq` on the box, or set server.auth in the configuration.",
            )
        raise UnauthenticatedError(
            f"the {purpose.value} has no valid token; Authorization: Bearer TOKEN is expected",
            hint="Send the token of server.auth, or use the daemon's Unix socket.",
        )

    def is_open(self, purpose: Purpose, peer: Peer) -> bool:
        """True where the table asks for no token, whatever the headers say."""
        if purpose is Purpose.USE:
            return peer.is_unix or self._is_known(peer) or self.is_anonymous
        return purpose is Purpose.HEALTH

    def _is_known(self, peer: Peer) -> bool:
        return (peer.is_loopback and not self.is_exposed) or peer.has_client_certificate

    def _is_change_open(self, purpose: Purpose, peer: Peer, token: str, origin: str) -> bool:
        is_change = purpose is Purpose.CHANGE_MODELS
        return is_change and self._is_known(peer) and not token and not origin

    def _configured(self) -> str:
        return self.token.token() if isinstance(self.token, TokenFile) else self.token or ""


def _knows(token: str, authorization: str) -> bool:
    """Compare in a time that does not depend on where the texts differ."""
    scheme, _, given = authorization.partition(" ")
    is_same = hmac.compare_digest(given.strip().encode(), token.encode())
    return bool(token) and scheme.lower() == "bearer" and is_same
