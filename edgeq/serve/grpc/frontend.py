"""Calls, rights and an address -> the gRPC side of the server: its port, its bounds, its end."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Any

import grpc

from edgeq.errors import EdgeqError
from edgeq.serve.grpc.credentials import ServerCertificates
from edgeq.serve.grpc.gate import Gate
from edgeq.serve.grpc.held_port import HeldPort
from edgeq.serve.grpc.library_log import ClientsFaults
from edgeq.serve.grpc.service import GrpcParts, Service
from edgeq.serve.limits import Limits
from edgeq.serve.listening import TcpAddress
from edgeq.tls import TlsOptions

# gRPC drops the calls that reach it while it begins to stop: of four busy clients, one in five
# stops had one that saw a CANCELLED. So calls pause before that, and are answered right after.
PAUSE_S = 0.1  # in which every busy client has come to wait for an answer
GOAWAY_S = 0.01  # for its way to the clients, ahead of the answers
LAST_ANSWERS_S = 1.0  # for what is being sent, and refusals of what the grace was too short for
LARGEST_OUTPUT_BYTES = 1 << 30  # what goes out is the model's size, not the client's choice


@dataclass(frozen=True)
class GrpcOptions:
    """Where to listen, and the bounds of the wire; port 0 takes any free one."""

    host: str
    port: int
    limits: Limits = field(default_factory=Limits)
    tls: TlsOptions | None = None


class GrpcFrontend:
    """A part of the `Server`; all but the constructor is called on its event loop.

    Args:
        parts: what answers.
        options: where to listen, and the bounds.
        held: the port's other listener, at which clients wait during a restart.
    """

    def __init__(
        self, parts: GrpcParts, options: GrpcOptions, held: HeldPort | None = None
    ) -> None:
        self._held = held
        self._options = options
        tls = options.tls
        self._certificates = None if tls is None else ServerCertificates(tls)
        asks = tls is not None and tls.client_ca_file is not None
        self._gate = Gate(parts.rights, options.limits, asks_certificates=asks)
        self._service = Service(parts, self._gate)
        self._server: Any = None
        self._faults = ClientsFaults()
        self.port = 0  # once it has started

    async def start(self) -> None:
        """Take calls from now on.

        Raises:
            EdgeqError: the port is in use or not allowed, or the host is no address of this box.
        """
        self._faults.install()
        self._server = grpc.aio.server(
            handlers=[self._service.handler()],
            options=_arguments(self._options.limits, is_shared=self._held is not None),
        )
        self.port = self._bind()
        await self._server.start()
        self._sweep = asyncio.ensure_future(self._gate.sweep())
        if self._held is not None:
            self._held.open()

    def _bind(self) -> int:
        port = self._options.port if self._held is None else self._held.port
        address = TcpAddress("grpc", self._options.host, port)
        target = _numeric(address)
        try:
            if self._certificates is None:
                return int(self._server.add_insecure_port(target))
            return int(self._server.add_secure_port(target, self._certificates.credentials()))
        except RuntimeError as error:
            address.bind().close()  # gRPC does not say why; this does
            raise EdgeqError(
                f"cannot listen on {address}: {error}",
                hint="Set server.grpc_port to another port, or to null for no gRPC.",
            ) from error

    async def stop(self, grace_s: float, *, park: bool = False) -> None:
        """Answer what has come, tell clients to go (GOAWAY), and hang up.

        Streams take no further requests. Past the grace, calls inside are answered UNAVAILABLE.
        gRPC keeps its connections to itself, there is nothing to park; with a held port, clients
        that come back wait there for the next process.
        """
        if self._held is not None:
            await self._held.close()
        self._gate.close()
        self._service.streams.stop()
        await asyncio.sleep(PAUSE_S)
        ending = asyncio.ensure_future(self._server.stop(grace_s + LAST_ANSWERS_S))
        await asyncio.sleep(GOAWAY_S)
        self._gate.resume()
        await asyncio.wait([ending], timeout=grace_s)
        self._gate.cancel_all()
        await ending
        self._sweep.cancel()
        self._faults.remove()
        if self._held is not None:
            await self._held.end()


def _numeric(address: TcpAddress) -> str:
    """Resolve as the HTTP side does, and write it as gRPC wants it."""
    try:
        found = socket.getaddrinfo(address.host, None, address.family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        address.bind().close()  # says what is wrong with it
        raise
    host = found[0][4][0]
    return f"[{host}]:{address.port}" if ":" in str(host) else f"{host}:{address.port}"


def _arguments(limits: Limits, *, is_shared: bool) -> list[tuple[str, int]]:
    idle_ms = round(1000 * limits.idle_timeout_s)
    return [
        # Not by itself: a second daemon would take half of the connections.
        ("grpc.so_reuseport", int(is_shared)),
        ("grpc.max_receive_message_length", limits.max_body_bytes),
        ("grpc.max_send_message_length", LARGEST_OUTPUT_BYTES),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
        ("grpc.max_concurrent_streams", limits.max_connections),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.server_handshake_timeout_ms", round(1000 * limits.header_timeout_s)),
        ("grpc.max_connection_idle_ms", idle_ms),
        # A client that vanished without a word is found by a ping; one that pings more often than
        # every 10 s is sent away.
        ("grpc.keepalive_time_ms", idle_ms),
        ("grpc.keepalive_timeout_ms", round(1000 * limits.write_timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]
