"""Users and bcrypt hashes -> is this password right? The only importer of bcrypt."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Mapping

from edgeq.errors import ConfigError

MAX_BYTES = 72  # bcrypt reads no more; Go cuts a longer password there, Python's refuses it
MAX_REMEMBERED = 128


class Passwords:
    """Checks passwords one at a time, and remembers the right ones: each costs bcrypt 60 ms.

    An unknown user costs as much as a known one. What is remembered is a digest keyed by a secret
    of this object's, never the password.

    Args:
        users: name -> hash.

    Raises:
        ConfigError: the package bcrypt is not installed.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = {name: text.encode() for name, text in users.items()}
        self._stand_in = max(self._users.values(), key=_cost)
        self._check = _bcrypt_check()
        self._secret = os.urandom(32)
        self._right: set[bytes] = set()
        self._lock = threading.Lock()  # held over bcrypt: a flood of guesses takes one core

    def is_right(self, user: str, password: bytes) -> bool:
        """Return whether this is the user's password."""
        expected = self._users.get(user)
        against = expected or self._stand_in
        digest = self._digest(user, against, password)
        if digest in self._right:
            return True
        with self._lock:
            is_same = self._check(password[:MAX_BYTES], against)
        if expected is None or not is_same:
            return False
        if len(self._right) >= MAX_REMEMBERED:
            self._right.clear()
        self._right.add(digest)
        return True

    def _digest(self, *parts: str | bytes) -> bytes:
        keyed = hashlib.blake2b(key=self._secret)
        for part in parts:
            content = part.encode(errors="replace") if isinstance(part, str) else part
            keyed.update(len(content).to_bytes(8, "big") + content)
        return keyed.digest()


def _cost(text: bytes) -> int:
    return int(text.split(b"$")[2])


def _bcrypt_check() -> Callable[[bytes, bytes], bool]:
    try:
        bcrypt = importlib.import_module("bcrypt")
    except ImportError as error:
        raise ConfigError(
            "the file of server.metrics_web_config has basic_auth_users, whose passwords need "
            f"the package bcrypt: {error}",
            hint="Install it: pip install 'edgeq[basic-auth]'.",
        ) from error

    def check(password: bytes, text: bytes) -> bool:
        try:
            return bool(bcrypt.checkpw(password, text))
        except ValueError:  # a password with a zero byte
            return False

    return check
