"""What was built and what is live -> one SQLite file that outlives crashes."""

from edgeq.registry.records import Event, SignedRelease, Version
from edgeq.registry.registry import Registry

__all__ = ["Event", "Registry", "SignedRelease", "Version"]
