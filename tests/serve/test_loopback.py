from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from edgeq.serve.loopback import is_loopback_address, is_loopback_host
from edgeq.serve.rights import Peer


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_what_only_this_box_reaches_is_loopback(address: str) -> None:
    assert is_loopback_address(address)
    assert is_loopback_host(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0", "::ffff:192.0.2.1"]
)
def test_a_wildcard_or_another_address_is_not(address: str) -> None:
    assert not is_loopback_address(address)
    assert not is_loopback_host(address)


def test_a_name_is_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"box": ["127.0.0.1", "192.0.2.1"], "here": ["127.0.0.1", "::1"]}

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert is_loopback_host("localhost")
    assert is_loopback_host("here")
    assert not is_loopback_host("box")
    assert not is_loopback_host("nobody-knows")
    assert not is_loopback_address("localhost")


def test_a_peer_is_read_from_its_connection(tmp_path: Path) -> None:
    async def seen() -> list[Peer]:
        peers: list[Peer] = []
        arrived = asyncio.Event()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                peers.append(Peer.of(transport))
                transport.close()
                arrived.set()

        loop = asyncio.get_running_loop()
        tcp = await loop.create_server(Protocol, "127.0.0.1", 0)
        unix = await loop.create_unix_server(Protocol, tmp_path / "s")
        port = tcp.sockets[0].getsockname()[1]
        for opened in (asyncio.open_connection("127.0.0.1", port),
                       asyncio.open_unix_connection(tmp_path / "s")):  # fmt: skip
            _, writer = await opened
            await asyncio.wait_for(arrived.wait(), 5)
            arrived.clear()
            writer.close()
            await writer.wait_closed()
        tcp.close()
        unix.close()
        return peers

    assert asyncio.run(seen()) == [
        Peer(is_unix=False, is_loopback=True), Peer(is_unix=True, is_loopback=False)
    ]  # fmt: skip
