"""Two configurations -> which keys changed, and which of them a reload cannot bring into force."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

from edgeq.config.fields import Key, leaves
from edgeq.config.schema import Config

# What is opened once: at startup, or when a model is first seen. Everything else is read anew for
# the next request, look, build or swap.
NEEDS_RESTART = (
    "models_dir",
    "state_dir",
    "server",
    "samples.maximum",
    "samples.max_bytes",
    "swap.instances",
    "swap.queue_size",
    "swap.max_batch",
    "swap.max_delay_us",
    "swap.warmup_runs",
    "swap.drain_timeout_s",
    "swap.hang_timeout_s",
    "drift.policy",
    "drift.window",
    "drift.psi",
    "drift.false_alarm_ratio",
    "drift.interval_s",
    "drift.activation_interval_s",
    "intake.settle_s",
    "safe_mode",
)


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
        applied=tuple(".".join(key) for key in changed if not _is_opened_once(key)),
        needs_restart=tuple(".".join(key) for key in changed if _is_opened_once(key)),
    )


def _is_opened_once(key: Key) -> bool:
    return any(".".join(key[:depth]) in NEEDS_RESTART for depth in range(1, len(key) + 1))


def _value(config: Config, key: Key) -> Any:
    return reduce(getattr, key, config)
