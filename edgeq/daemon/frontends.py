"""The data plane -> the ports it is served on: listeners, servers, and what a restart keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeq.config import Config
from edgeq.config.web_config import read_web_config
from edgeq.daemon.plane import Plane
from edgeq.daemon.spare_socket import SpareUnixAddress, link_spare, remove_spare
from edgeq.errors import EdgeqError
from edgeq.observe.metrics import Metrics
from edgeq.observe.metrics_server import MetricsServer
from edgeq.observe.page import Page
from edgeq.observe.web_access import AccessFile
from edgeq.serve import handover
from edgeq.serve.calls import Calls, RequestRecord
from edgeq.serve.data_plane import Admin
from edgeq.serve.grpc.held_port import HeldPort, SharedAddress
from edgeq.serve.http.app import AppParts, make_app
from edgeq.serve.http.frontend import HttpFrontend, HttpOptions
from edgeq.serve.http.threads import Threads
from edgeq.serve.listening import Address, Listener, TcpAddress, open_listeners
from edgeq.serve.loopback import is_loopback_host
from edgeq.serve.rights import Rights
from edgeq.serve.server import Server
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from edgeq.serve.token_file import TokenFile
from edgeq.systemd import FdStore, Notifier, take_passed_sockets
from edgeq.tls import ServerTls

if TYPE_CHECKING:
    from edgeq.serve.grpc.frontend import GrpcFrontend

logger = logging.getLogger(__name__)


class Frontends:
    """HTTP over TCP and a Unix socket, and /metrics; clients may connect once it is made.

    Args:
        config: where to listen, and whom to serve.
        metrics: what /metrics shows, and where requests are counted.
        notifier: reaches the service manager, which keeps the sockets over a restart.
        note: notes a fault of the box that an error tells of; None for an error that tells of none.

    Raises:
        EdgeqError: a port or socket cannot be had.
        ConfigError: a file of certificates, users or the token cannot be used.
    """

    def __init__(
        self,
        config: Config,
        metrics: Metrics,
        notifier: Notifier,
        note: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._note = note
        server = config.server
        self._config = config
        self._metrics = metrics
        tls = server.tls.options
        self._tls = ServerTls(tls, _complain) if tls is not None else None
        self._rights = _rights(config)
        access = _metrics_access(config)
        self._store = FdStore.from_environment(notifier)
        passed = take_passed_sockets()
        self._listeners = open_listeners(_addresses(config, self._store), passed, self._store)
        # Connections of a time before TLS end here; TLS itself cannot be handed over.
        plain = self._named(*(["unix"] if tls else ["http", "unix"]))
        self._adopted = handover.adopt(passed, plain, self._store)
        self._regions = SharedMemory(max_read_bytes=server.max_body_bytes)
        self._threads = Threads()
        self._http: HttpFrontend | None = None  # until `serve`
        self._grpc: GrpcFrontend | None = None
        self._server: Server | None = None
        scraped = self._named("metrics")[0].socket.dup()
        self._metrics_server = MetricsServer(metrics, scraped, access)

    @property
    def where(self) -> str:
        """Where clients reach it, for people."""
        http = self._listeners[0].port
        server = self._config.server
        grpc = f"gRPC on :{self._grpc.port}, " if self._grpc is not None else ""
        return (
            f"{server.host}:{http}, metrics on :{self._metrics_server.port}, "
            f"{grpc}socket {self._config.socket_path}"
        )

    def serve(self, plane: Plane, admin: Admin) -> None:
        """Make the server that `run` runs."""
        server = self._config.server
        calls = Calls(plane, server.timeout_s, Statistics(), self._on_request)
        parts = AppParts(calls, admin, self._rights, self._regions, self._threads, Page())
        context = self._tls.context if self._tls is not None else None
        self._http = HttpFrontend(
            make_app(parts).handle,
            HttpOptions(limits=server.limits_of_clients, tls=context),
            self._named("http", "unix"),
            self._adopted,
        )
        self._grpc = self._make_grpc(parts) if server.grpc_port is not None else None
        self._server = Server([self._http, *([self._grpc] if self._grpc else [])], self._note)

    def reload_certificates(self) -> None:
        """Let new handshakes use what the certificate files hold now.

        Raises:
            ConfigError: they cannot be used; what was loaded stays in force.
        """
        if self._tls is not None:
            self._tls.reload()

    def run(self) -> None:
        """Serve until `stop`; the body of a thread."""
        assert self._server is not None, "serve() comes first"
        self._server.run()

    def wait_started(self) -> None:
        """Return once requests are taken; EdgeqError where they cannot be."""
        assert self._server is not None, "serve() comes first"
        self._server.wait_started()

    def beat(self, answer: Callable[[], None]) -> None:
        """Have `answer` called by the loop that serves, at its next turn."""
        if self._server is not None:
            self._server.beat(answer)

    def stop(self, grace_s: float) -> None:
        """Let `run` return; connections that the service manager can keep stay open."""
        if self._server is not None:
            is_held = any(each.is_held for each in self._listeners)
            self._server.stop(grace_s, park=is_held)

    def close(self) -> None:
        """Leave the sockets to the next process, and free the rest; after `run` returned."""
        kept = self._adopted if self._http is None else self._http.parked
        parked = handover.park(kept, self._listeners, self._store)
        if parked:
            logger.info(f"{parked} connections wait for the next start")
        self._close_listeners()
        self._threads.close()
        self._regions.close()
        self._metrics_server.close()

    def _make_grpc(self, parts: AppParts) -> GrpcFrontend:
        # Here, because grpc takes 30 MB that a box without it need not give.
        from edgeq.serve.grpc.frontend import GrpcFrontend, GrpcOptions
        from edgeq.serve.grpc.service import GrpcParts

        server = self._config.server
        assert server.grpc_port is not None, "what the caller asked"
        held = next((HeldPort(each, self._store) for each in self._named("grpc")), None)
        return GrpcFrontend(
            GrpcParts(parts.calls, parts.rights, parts.regions, parts.threads.run),
            GrpcOptions(
                server.host, server.grpc_port, server.limits_of_clients, server.tls.options
            ),
            held,
        )

    def _named(self, *names: str) -> list[Listener]:
        return [each for each in self._listeners if each.name in names]

    def look(self) -> None:
        """Put the Unix socket where clients look for it, once a disk that refused it takes it."""
        for listener in self._named("unix"):
            link_spare(listener)

    def _close_listeners(self) -> None:
        for listener in self._named("unix"):
            remove_spare(listener)
        for listener in self._listeners:
            listener.close()

    def _on_request(self, record: RequestRecord) -> None:
        self._metrics.count_request(
            record.model, record.version, record.protocol, record.code, record.seconds
        )


def _rights(config: Config) -> Rights:
    server = config.server
    token_file = server.auth.token_file
    return Rights(
        token=None if token_file is None else TokenFile(token_file),
        is_anonymous=server.auth.anonymous,
        is_exposed=not is_loopback_host(server.host),
    )


def _addresses(config: Config, store: FdStore) -> list[Address]:
    """All but gRPC's, and gRPC's where the service manager holds it over a restart."""
    server = config.server
    addresses: list[Address] = [
        TcpAddress("http", server.host, server.http_port),
        SpareUnixAddress("unix", config.socket_path),
        TcpAddress("metrics", server.metrics_address, server.metrics_port),
    ]
    is_plain = server.tls.options is None
    if server.grpc_port is not None and is_plain and store.has_manager:
        addresses.append(SharedAddress("grpc", server.host, server.grpc_port))
    return addresses


def _metrics_access(config: Config) -> AccessFile | None:
    path = config.server.metrics_web_config
    return None if path is None else AccessFile(path, read_web_config, _complain)


def _complain(error: EdgeqError) -> None:
    logger.warning(f"{error.message}; what was read before stays in force")
