"""A call's context -> who asks."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.serve.grpc.peers import authorization_of, peer_of
from edgeq.serve.rights import Peer


class Context:
    def __init__(self, peer: str = "", metadata: Any = (), authentication: Any = ()) -> None:
        self._peer = peer
        self._metadata = metadata
        self._authentication = authentication

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> Any:
        return self._authentication


LOCAL, REMOTE = Peer(False, True), Peer(False, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ipv4:127.0.0.1:45574", LOCAL),
        ("ipv4:127.8.9.10:1", LOCAL),
        ("ipv6:%5B::1%5D:1", LOCAL),
        ("ipv6:[::1]:1", LOCAL),
        ("ipv6:%5B::ffff:127.0.0.1%5D:1", LOCAL),
        ("ipv4:192.0.2.7:127", REMOTE),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", REMOTE),
        ("ipv6:%5B2001:db8::127.0.0.1%5D:1", REMOTE),
        ("unix:", Peer(is_unix=True, is_loopback=False)),
        ("unix:/run/edgeq.sock", Peer(is_unix=True, is_loopback=False)),
        ("", REMOTE),
    ],
)
def test_the_kind_of_a_peer_is_read_from_its_address(text: str, expected: Peer) -> None:
    assert peer_of(Context(text), may_have_certificate=False) == expected


def test_a_certificate_counts_where_the_server_asked_for_one() -> None:
    shown = Context("ipv4:192.0.2.7:1", authentication={"x509_pem_cert": [b"..."]})
    assert peer_of(shown, may_have_certificate=True).has_client_certificate
    assert not peer_of(shown, may_have_certificate=False).has_client_certificate
    none = Context("ipv4:192.0.2.7:1", authentication={"transport_security_type": [b"ssl"]})
    assert not peer_of(none, may_have_certificate=True).has_client_certificate


def test_the_authorization_is_found_among_the_metadata() -> None:
    given = (("user-agent", "x"), ("authorization", "Bearer y"))
    assert authorization_of(Context(metadata=given)) == "Bearer y"
    assert authorization_of(Context(metadata=given[:1])) == ""
