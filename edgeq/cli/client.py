"""Commands -> a running daemon: over its Unix socket, or over TCP with a token."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from edgeq.errors import DaemonError, UsageError
from edgeq.serve.token_file import read_token
from edgeq.tls import client_context

TIMEOUT_S = 120.0  # a rollback waits for the old engine's requests
DEFAULT_PORT = 8000
TOKEN_VARIABLE = "EDGEQ_TOKEN"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Credentials:
    """What a client shows a daemon over TCP, and whom it trusts; None: the usual."""

    token_file: Path | None = None  # usually the token is in EDGEQ_TOKEN
    ca_file: Path | None = None  # usually the system's authorities
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def token(self) -> str:
        """The bearer token; "" for none.

        Raises:
            UsageError: the file holds none.
        """
        if self.token_file is not None:
            return read_token(self.token_file, "--token-file")
        return os.environ.get(TOKEN_VARIABLE, "").strip()

    @property
    def names_tls_files(self) -> bool:
        """True where one of the files is of use with https:// alone."""
        return bool(self.ca_file or self.cert_file or self.key_file)


class DaemonClient:
    """Speaks to the admin side of one daemon.

    Args:
        unix_socket: the daemon's socket, which needs no token.
        url: `http://host:port` or `https://host:port` instead.
        credentials: for the URL.

    Raises:
        UsageError: no daemon is named, or a file of the credentials cannot be used.
    """

    def __init__(
        self,
        *,
        unix_socket: Path | None = None,
        url: str | None = None,
        credentials: Credentials = Credentials(),
    ) -> None:
        if unix_socket is None and url is None:
            raise UsageError(
                "no daemon is named", hint="Give --config FILE of the daemon, or --url."
            )
        self._unix_socket = unix_socket
        self._url = url
        self._credentials = credentials
        self._tls: ssl.SSLContext | None = None
        if url is not None:
            scheme, self._host, self._port = _address(url)
            self._tls = _tls(scheme, credentials)

    def status(self) -> dict[str, Any]:
        """Return what `GET /edgeq/status` answers."""
        return self._request("GET", "/edgeq/status", b"", {})

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Run an admin command.

        Raises:
            DaemonError: the daemon is not there, or refused.
        """
        body = json.dumps(arguments).encode()
        headers = {"Content-Type": "application/json"}
        return self._request("POST", f"/edgeq/{command}", body, headers)

    def add_samples(self, name: str, path: Path) -> dict[str, Any]:
        """Send a file of samples."""
        target = f"/edgeq/samples/{quote(name, safe='')}?filename={quote(path.name, safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        return self._request("POST", target, path.read_bytes(), headers)

    def _connection(self) -> http.client.HTTPConnection:
        if self._unix_socket is not None and self._url is None:
            return _UnixConnection(self._unix_socket)
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)

    def _request(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> dict[str, Any]:
        if token := self._credentials.token:
            headers = {**headers, "Authorization": f"Bearer {_plain(token)}"}
        connection = self._connection()
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        return _answer(response.status, content)

    def _unreachable(self, error: Exception) -> DaemonError:
        hint = "Start it with `edgeq run`, or name its configuration with --config."
        if isinstance(error, PermissionError):
            hint = "Run this as the daemon's user, or as a member of its group."
        if isinstance(error, ssl.SSLError):
            hint = "Name its authority with --ca, and your certificate with --cert and --key."
        reason = _reason(error)
        return DaemonError(
            f"no daemon answers at {self._url or self._unix_socket}: {reason}", hint=hint
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _tls(scheme: str, credentials: Credentials) -> ssl.SSLContext | None:
    if scheme == "http":
        if credentials.names_tls_files:
            raise UsageError(
                "--ca, --cert and --key are for https; the --url says http",
                hint="Write --url https://HOST:PORT, or leave them out.",
            )
        return None
    if credentials.key_file is not None and credentials.cert_file is None:
        raise UsageError("--key is given without --cert", hint="Name the key's certificate.")
    return client_context(credentials.ca_file, credentials.cert_file, credentials.key_file)


def _address(url: str) -> tuple[str, str, int]:
    """Read http[s]://HOST[:PORT][/]."""
    with contextlib.suppress(ValueError):  # of the port
        parts = urlsplit(url)
        is_bare = parts.path in ("", "/") and not parts.query
        if parts.scheme in ("http", "https") and parts.hostname and is_bare:
            return parts.scheme, parts.hostname, parts.port or DEFAULT_PORT
    raise UsageError(
        f"--url is {url!r}; expected http or https, a host, and no path",
        hint="Write --url http://HOST:PORT or https://HOST:PORT.",
    )


def _plain(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise UsageError(
            f"the token of {TOKEN_VARIABLE} holds characters that no HTTP header can carry",
            hint="Set it to the first line of the daemon's token file.",
        )
    return token


def _answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise DaemonError(
            f"the answer has status {status} and is no JSON object; edgeq answers with one",
            hint="Check that the address is edgeq's.",
        )
    if status >= 400:
        message = str(answer.get("error") or f"the daemon answered {status}")
        raise DaemonError(message, hint=str(answer.get("hint") or ""))
    return answer
