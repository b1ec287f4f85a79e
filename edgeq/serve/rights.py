"""A connection and its Authorization header -> may it change the daemon?"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from starlette.types import Scope

from edgeq.errors import ForbiddenError

# Set by the server's protocol class for each connection, from the socket's own family: the ASGI
# scope alone tells the two apart by the absence of an address, which a torn TCP connection shares.
IS_UNIX_SOCKET = "edgeq.is_unix_socket"


@dataclass(frozen=True)
class Rights:
    """Who may call: everyone on the Unix socket, on TCP whoever knows the token."""

    token: str | None

    def check_admin(self, scope: Scope) -> None:
        """Refuse an admin call without the right to make it.

        Raises:
            ForbiddenError: it came over TCP without the token, or none is configured.
        """
        if is_unix_socket(scope):
            return
        if not self.token:
            raise ForbiddenError(
                "admin calls over TCP are off: no token is configured",
                hint="Use the daemon's Unix socket, or set server.auth in the configuration.",
            )
        if not self._knows_token(scope):
            raise ForbiddenError(
                "the admin call has no valid token; Authorization: Bearer TOKEN is expected",
                hint="Send the token of server.auth, or use the daemon's Unix socket.",
            )

    def check_repository(self, scope: Scope) -> None:
        """As `check_admin`, but open where no token is configured, as Triton's load and unload."""
        if self.token:
            self.check_admin(scope)

    def _knows_token(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        expected = (self.token or "").encode()
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), expected)


def is_unix_socket(scope: Scope) -> bool:
    """True where the connection came over the Unix socket; False where nobody said so."""
    return scope.get("state", {}).get(IS_UNIX_SOCKET) is True
