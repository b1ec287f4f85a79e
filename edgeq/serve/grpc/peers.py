"""A call's context -> who asks, in the words of `serve.rights`."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from edgeq.serve.loopback import is_loopback_address
from edgeq.serve.rights import Peer

Context = Any  # grpc.aio.ServicerContext, of a library without types


def peer_of(context: Context, *, may_have_certificate: bool) -> Peer:
    """Return who asks.

    gRPC tells the client's address, not the one it came to. A client's loopback address on a
    server that listens on loopback only, which is when it counts, is as good.

    Args:
        context: the call's.
        may_have_certificate: the server asks its clients for one.
    """
    kind, _, address = context.peer().partition(":")
    if kind == "unix":
        return Peer(is_unix=True, is_loopback=False)
    is_local = address.startswith("127.") or is_loopback_address(_host(address))
    # Only certificates that the handshake verified get there.
    is_known = may_have_certificate and "x509_pem_cert" in context.auth_context()
    return Peer(False, is_local, is_known)


def _host(address: str) -> str:
    """Take the port and the brackets off `%5B::1%5D:8001`."""
    return unquote(address).rpartition(":")[0].strip("[]")


def authorization_of(context: Context) -> str:
    """Return the metadata of that name, "" where there is none; two are joined, as HTTP's are."""
    return ", ".join(
        value for key, value in context.invocation_metadata() if key == "authorization"
    )
