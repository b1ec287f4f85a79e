"""What one client, and all of them together, may take of a server: connections, bytes, time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of the TCP and Unix listeners together; times in seconds."""

    max_connections: int = 512  # open at once; a further one is told 503 and closed
    max_header_bytes: int = 64 << 10  # of one request's line and headers
    max_body_bytes: int = 64 << 20  # of one request's body, compressed or not
    max_buffered_bytes: int = 256 << 20  # of the bodies of all requests at once; beyond: 503
    header_timeout_s: float = 10.0  # from a request's first byte to the end of its headers
    body_timeout_s: float = 30.0  # from there to the end of its body
    idle_timeout_s: float = 75.0  # between two requests on a connection
    write_timeout_s: float = 30.0  # without a byte of an answer being taken
