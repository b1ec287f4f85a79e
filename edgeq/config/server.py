"""Where requests come in, who may make them, and how much of the box they may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict, model_validator

from edgeq.config.fields import KIB, MIB, AbsolutePath, Bytes, Count, Port, Seconds, Section
from edgeq.serve.limits import Limits
from edgeq.serve.loopback import is_loopback_host
from edgeq.serve.token_file import read_token
from edgeq.tls import ClientCertificate, TlsOptions


class Auth(Section):
    """Who may call beyond the Unix socket."""

    token_file: AbsolutePath | None = Field(
        default=None,
        description="file whose first line is the bearer token; null: admin by socket only",
    )
    anonymous: Annotated[bool, Strict()] = Field(
        default=False, description="let everyone beyond this box use the models, without a token"
    )

    def read_token(self) -> str | None:
        """Return the token, or None where none is configured.

        Raises:
            ConfigError: the file cannot be read or holds no token.
        """
        return None if self.token_file is None else read_token(self.token_file)


class Tls(Section):
    """How the TCP listeners of HTTP and gRPC encrypt; the Unix socket does not."""

    cert_file: AbsolutePath | None = Field(
        default=None, description="PEM certificate with its chain; null: plain TCP"
    )
    key_file: AbsolutePath | None = Field(default=None, description="PEM key, not encrypted")
    client_ca_file: AbsolutePath | None = Field(
        default=None,
        description="PEM authorities; each client must show a certificate of theirs (mTLS)",
    )

    @model_validator(mode="after")
    def _files_fit(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("server.tls.cert_file and key_file go together; one is missing")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ValueError("server.tls.client_ca_file needs cert_file and key_file")
        return self

    @property
    def options(self) -> TlsOptions | None:
        """The files to load, or None for plain TCP."""
        if self.cert_file is None or self.key_file is None:
            return None
        verify: ClientCertificate = "none" if self.client_ca_file is None else "required"
        return TlsOptions(self.cert_file, self.key_file, self.client_ca_file, verify)


class ServerLimits(Section):
    """What clients may take of the server, one by one and together."""

    max_connections: Count = Field(default=512, description="open at once; beyond: 503")
    max_header_bytes: Bytes = Field(
        default=64 * KIB, description="largest head of a request, bytes"
    )
    max_buffered_bytes: Bytes = Field(
        default=256 * MIB, description="bodies of all requests at once, bytes; beyond: 503"
    )
    header_timeout_s: Seconds = Field(
        default=10.0, description="from a request's first byte to the end of its head, seconds"
    )
    body_timeout_s: Seconds = Field(
        default=30.0, description="from there to the end of its body, seconds"
    )
    idle_timeout_s: Seconds = Field(
        default=75.0, description="between two requests on a connection, seconds"
    )
    write_timeout_s: Seconds = Field(
        default=30.0, description="for a client that takes nothing of its answer, seconds"
    )


class Server(Section):
    """Where requests come in."""

    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    http_port: Port = Field(
        default=8000, description="TCP port of the Open Inference Protocol; 0: any"
    )
    grpc_port: Port | None = Field(
        default=8001, description="TCP port of the protocol over gRPC; 0: any, null: no gRPC"
    )
    metrics_host: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="address of /metrics; null: as host"
    )
    metrics_port: Port = Field(default=8002, description="TCP port of /metrics; 0: any free one")
    metrics_web_config: AbsolutePath | None = Field(
        default=None,
        description="web-config.yml of Prometheus' exporter-toolkit: TLS and users of /metrics",
    )
    unix_socket: AbsolutePath | None = Field(
        default=None,
        description="socket for local clients and admin calls; null: STATE_DIR/edgeq.sock, or "
        "/run/NAME/edgeq.sock where state_dir is /var/lib/NAME",
    )
    auth: Auth = Auth()
    tls: Tls = Tls()
    limits: ServerLimits = ServerLimits()
    max_body_bytes: Bytes = Field(default=64 * MIB, description="largest request body, bytes")
    timeout_s: Seconds = Field(
        default=30.0, description="deadline of a request without its own, seconds"
    )

    @property
    def is_exposed(self) -> bool:
        """True where others than this box can reach it."""
        return not is_loopback_host(self.host)

    @property
    def metrics_address(self) -> str:
        """The host of /metrics."""
        return self.metrics_host or self.host

    @property
    def limits_of_clients(self) -> Limits:
        """What the HTTP server holds its clients to."""
        return Limits(max_body_bytes=self.max_body_bytes, **self.limits.model_dump())

    @model_validator(mode="after")
    def _ports_differ(self) -> Server:
        taken: dict[int, str] = {}
        for name in ("http_port", "grpc_port", "metrics_port"):
            port = getattr(self, name)
            if port and port in taken:
                raise ValueError(f"{taken[port]} and {name} are both {port}")
            taken[port] = name
        return self

    @model_validator(mode="after")
    def _body_fits(self) -> Server:
        if self.max_body_bytes > self.limits.max_buffered_bytes:
            raise ValueError(
                f"server.max_body_bytes {self.max_body_bytes} is above "
                f"server.limits.max_buffered_bytes {self.limits.max_buffered_bytes}: "
                "the largest request would never be taken"
            )
        return self

    @model_validator(mode="after")
    def _strangers_are_told_apart(self) -> Server:
        has_access = self.auth.token_file or self.tls.client_ca_file or self.auth.anonymous
        if not has_access and self.is_exposed:
            raise ValueError(
                f"server.host is {self.host!r}, which others can reach; set "
                "server.auth.token_file or server.tls.client_ca_file, or say with "
                "server.auth.anonymous: true that everyone may use the models"
            )
        return self
