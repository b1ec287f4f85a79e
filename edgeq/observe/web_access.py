"""Who may scrape /metrics, and how: TLS, passwords, headers, rate; followed as files change."""

from __future__ import annotations

import base64
import binascii
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq import files
from edgeq.errors import EdgeqError
from edgeq.observe.passwords import Passwords
from edgeq.tls import TlsOptions, server_context


@dataclass(frozen=True)
class RateLimit:
    """A request each `interval_s`, and `burst` of them at once."""

    interval_s: float
    burst: int


@dataclass(frozen=True)
class WebAccess:
    """What a web-config.yml says; without anything, everyone may scrape over plain TCP."""

    tls: TlsOptions | None = None
    allowed_names: frozenset[str] = frozenset()  # of client certificates; none: any
    users: Mapping[str, str] = field(default_factory=dict)  # name -> bcrypt hash; none: no password
    headers: Mapping[str, str] = field(default_factory=dict)  # added to each answer
    rate_limit: RateLimit | None = None


class Gate:
    """One state of the file, ready for requests.

    Raises:
        ConfigError: a certificate cannot be loaded, or bcrypt is missing.
    """

    def __init__(self, access: WebAccess) -> None:
        self.access = access
        self.context: ssl.SSLContext | None = server_context(access.tls) if access.tls else None
        self._passwords = Passwords(access.users) if access.users else None
        self._bucket = TokenBucket(access.rate_limit) if access.rate_limit else None

    def has_room(self) -> bool:
        """Take one request of the rate."""
        return self._bucket is None or self._bucket.take()

    def knows(self, authorization: str) -> bool:
        """Return whether the header's value names a user and the right password, or none must."""
        if self._passwords is None:
            return True
        scheme, _, encoded = authorization.partition(" ")
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        user, separator, password = decoded.partition(b":")
        if scheme.lower() != "basic" or not separator:
            return False
        return self._passwords.is_right(user.decode(errors="replace"), password)


class AccessFile:
    """The gate of now: the file and its certificates are looked at for each connection.

    Files that cannot be used leave the last gate in force, and are told once.

    Args:
        path: the web-config.yml.
        read: what makes it a `WebAccess`.
        on_problem: is told why a changed file is not in force.

    Raises:
        ConfigError: the file cannot be used at the start.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], WebAccess],
        on_problem: Callable[[EdgeqError], None],
    ) -> None:
        self._path = path
        self._read = read
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._watched: tuple[Path, ...] = ()
        self._seen: tuple[object, ...] = ()
        self._gate = self._load()

    def gate(self) -> Gate:
        """Return what is in force now."""
        with self._lock:
            if self._seen != tuple(map(files.fingerprint, self._watched)):
                try:
                    self._gate = self._load()
                except EdgeqError as error:
                    self._on_problem(error)
            return self._gate

    def _load(self) -> Gate:
        """Look before reading: what changes meanwhile is seen next time."""
        self._watched, self._seen = (), ()
        self._watch(self._path)
        access = self._read(self._path)
        if access.tls is not None:
            self._watch(*access.tls.paths)
        return Gate(access)

    def _watch(self, *paths: Path) -> None:
        self._watched += paths
        self._seen += tuple(map(files.fingerprint, paths))


class TokenBucket:
    """Holds up to `burst` requests, and one more each interval."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._level, self._filled = float(limit.burst), clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one if there is one."""
        with self._lock:
            now = self._clock()
            self._level += (now - self._filled) / self._limit.interval_s
            self._level, self._filled = min(self._level, float(self._limit.burst)), now
            if self._level < 1:
                return False
            self._level -= 1
            return True
