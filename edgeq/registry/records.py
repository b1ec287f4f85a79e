"""What the registry says: a version, an event, a signed release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Version:
    """One version of one model; `directory` is relative to the folder of bundles."""

    name: str
    version: int
    model_sha256: str
    engine: str
    method: str
    directory: str
    state: str
    reason: str
    created: float  # seconds since the epoch


@dataclass(frozen=True)
class Event:
    """Something that happened; `name` is "" where it concerns the whole daemon."""

    time: float  # seconds since the epoch
    name: str
    version: int | None
    kind: str
    message: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SignedRelease:
    """A file that was accepted for its signature; `version` is its owner's, not the registry's."""

    version: int
    sha256: str
