"""Two configurations -> which keys changed, and which of them a reload cannot bring into force."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from edgeq.config.schema import Config, Key, leaves

# What is opened once, at startup. Everything else is read anew for the next request, build or swap.
NEEDS_RESTART = ("models_dir", "state_dir", "server")


@dataclass(frozen=True)
class Changes:
    """Dotted keys, in the order of the file."""

    applied: tuple[str, ...]  # in force after the reload
    needs_restart: tuple[str, ...]  # in force after the next start

    @property
    def is_empty(self) -> bool:
        """True where both configurations say the same."""
        return not self.applied and not self.needs_restart


def describe_changes(old: Config, new: Config) -> Changes:
    """Return the keys whose values differ."""
    changed = [key for key, _ in leaves(Config) if _value(old, key) != _value(new, key)]
    return Changes(
        applied=tuple(".".join(key) for key in changed if key[0] not in NEEDS_RESTART),
        needs_restart=tuple(".".join(key) for key in changed if key[0] in NEEDS_RESTART),
    )


def _value(config: Config, key: Key) -> Any:
    return reduce(getattr, key, config)
