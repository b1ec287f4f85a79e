"""What was built and what is live -> one SQLite file that outlives crashes."""

from edgeq.registry.registry import Event, Registry, Version

__all__ = ["Event", "Registry", "Version"]
