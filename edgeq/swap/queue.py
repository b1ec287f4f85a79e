"""Requests that wait for an engine: the most urgent first, then in the order of arrival."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from edgeq.swap.batching import are_alike
from edgeq.swap.requests import DEFAULT_PRIORITY, Waiting

Entry = tuple[int, int, Waiting]  # level, arrival, request


class RequestQueue:
    """Not thread-safe: its owner's lock guards it."""

    def __init__(self) -> None:
        self._arrivals = itertools.count()
        self._heap: list[Entry] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def soonest_deadline(self) -> float:
        """When the first request will have waited too long; infinity where none will."""
        return min((request.deadline for _, _, request in self._heap), default=float("inf"))

    def push(self, request: Waiting, priority: int) -> None:
        """Add a request; priority as `Slot.submit`."""
        entry = priority or DEFAULT_PRIORITY, next(self._arrivals), request
        heapq.heappush(self._heap, entry)

    def ahead_of(self, priority: int) -> int:
        """Count the requests whose turn comes before that of one which would come now."""
        own = priority or DEFAULT_PRIORITY
        return sum(level <= own for level, _, _ in self._heap)

    def pop(self) -> Waiting:
        """Take the request whose turn it is."""
        return heapq.heappop(self._heap)[2]

    def pop_alike(self, first: Waiting, least: int, most: int) -> list[Waiting]:
        """Take up to `most` requests of the same shapes as `first`, but none below `least`."""
        taken: list[Entry] = []
        others: list[Entry] = []
        while self._heap and len(taken) < most:
            entry = heapq.heappop(self._heap)
            is_alike = are_alike(first.inputs, entry[2].inputs)
            (taken if is_alike else others).append(entry)
        if len(taken) < least:
            taken, others = [], taken + others
        for entry in others:
            heapq.heappush(self._heap, entry)
        return [request for _, _, request in taken]

    def remove(self, is_removed: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out all requests of a kind."""
        removed: list[Waiting] = []
        kept: list[Entry] = []
        for entry in self._heap:
            if is_removed(entry[2]):
                removed.append(entry[2])
            else:
                kept.append(entry)
        heapq.heapify(kept)
        self._heap = kept
        return removed
