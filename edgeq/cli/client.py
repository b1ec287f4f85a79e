"""Commands -> a running daemon: over its Unix socket, or over TCP with a token."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from edgeq.errors import DaemonError, UsageError

TIMEOUT_S = 120.0  # a rollback waits for the old engine's requests


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class DaemonClient:
    """Speaks to the admin side of one daemon.

    Args:
        unix_socket: the daemon's socket, which needs no token.
        url: `http://host:port` instead; the token is taken from EDGEQ_TOKEN.
    """

    def __init__(self, *, unix_socket: Path | None = None, url: str | None = None) -> None:
        self._unix_socket = unix_socket
        self._url = url
        if url is not None and urlsplit(url).scheme != "http":
            raise UsageError(
                f"--url is {url!r}; edgeq speaks http", hint="Write --url http://HOST:PORT."
            )

    def status(self) -> dict[str, Any]:
        """Return what `GET /edgeq/status` answers."""
        return self._request("GET", "/edgeq/status", b"", {})  # type: ignore[no-any-return]

    def call(self, command: str, **arguments: Any) -> Any:
        """Run an admin command.

        Raises:
            DaemonError: the daemon is not there, or refused.
        """
        body = json.dumps(arguments).encode()
        headers = {"Content-Type": "application/json"}
        return self._request("POST", f"/edgeq/{command}", body, headers)

    def add_samples(self, name: str, path: Path) -> Any:
        """Send a file of samples."""
        target = f"/edgeq/samples/{quote(name)}?filename={quote(path.name)}"
        headers = {"Content-Type": "application/octet-stream"}
        return self._request("POST", target, path.read_bytes(), headers)

    def _connection(self) -> http.client.HTTPConnection:
        if self._url is not None:
            parts = urlsplit(self._url)
            return http.client.HTTPConnection(
                parts.hostname or "127.0.0.1", parts.port or 8000, timeout=TIMEOUT_S
            )
        if self._unix_socket is None:
            raise UsageError(
                "no daemon is named", hint="Give --config FILE of the daemon, or --url."
            )
        return _UnixConnection(self._unix_socket)

    def _request(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        if token := os.environ.get("EDGEQ_TOKEN"):
            headers = {**headers, "Authorization": f"Bearer {token}"}
        connection = self._connection()
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise DaemonError(
                f"no daemon answers at {self._url or self._unix_socket}: {error}",
                hint="Start it with `edgeq run`, or name its configuration with --config.",
            ) from error
        finally:
            connection.close()
        return _answer(response.status, content)


def _answer(status: int, content: bytes) -> Any:
    try:
        answer = json.loads(content or b"null")
    except ValueError as error:
        raise DaemonError(
            f"the daemon answered {status} with something that is not JSON",
            hint="Check that the address is edgeq's.",
        ) from error
    if status >= 400:
        message = answer.get("error", content.decode()) if isinstance(answer, dict) else str(answer)
        hint = answer.get("hint", "") if isinstance(answer, dict) else ""
        raise DaemonError(message, hint=hint)
    return answer
