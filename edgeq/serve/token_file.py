"""A file -> the bearer token on its first line, read anew once the file changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from edgeq import files
from edgeq.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 4 << 10
LOOK_INTERVAL_S = 1.0  # the file's times are looked at this often at most


def read_token(path: Path, named_by: str = "server.auth.token_file") -> str:
    """Return the first line of a file.

    Args:
        path: the file.
        named_by: the key or flag that names it, for the error.

    Raises:
        ConfigError: the file cannot be read or holds no token.
    """
    hint = "Write one line of random characters into it, readable by edgeq only."
    try:
        with path.open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES).split(b"\n")[0].strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{named_by} {path} cannot be read: {error}", hint=hint) from error
    if not token:
        raise ConfigError(f"{named_by} {path} has an empty first line", hint=hint)
    return token


class TokenFile:
    """The token of now: writing another into the file rotates it, without a restart.

    A file that is gone, empty or unreadable leaves the last token in force and is logged: a
    rotation that writes in place passes through an empty file, and must not open anything.

    Raises:
        ConfigError: the file holds no token at the start.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = files.fingerprint(path)
        self._token = read_token(path)
        self._next_look = clock() + LOOK_INTERVAL_S

    def token(self) -> str:
        """Return the token; looks at the file once a second at most."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL_S
            self._look()
        return self._token

    def _look(self) -> None:
        seen = files.fingerprint(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            token = read_token(self._path)
        except ConfigError as error:
            logger.warning(f"{error.message}; the last token stays in force")
            return
        if token != self._token:
            self._token = token
            logger.info("the token was rotated")
