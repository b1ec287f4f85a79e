"""Which samples stay: a bounded index and the draw for a place in it, without any I/O.

Captured samples belong to a stratum: the time before any drift, or a drift and what followed it.
Within one, they are a uniform sample of the requests offered (Vitter 1985, algorithm R). Where the
store is full, a stratum grows only by places of a larger one, so that all come to equal shares and
none that has no more than its share loses a sample to another: a night of dark frames does not
push the day out, and neither does a stream made to. Added samples, a person's, are never evicted.
Not thread-safe: the store holds the lock.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgeq.samples.naming import BEFORE, Origin, file_name

MAX_STRATA = 8  # with more, the two oldest become one; those from before any drift stay apart


@dataclass(frozen=True)
class SampleRow:
    """What is known of a stored sample without reading it."""

    id: str
    bytes: int
    time: float  # seconds since the epoch
    origin: Origin
    held_out: bool | None = None  # depends on a ratio that the store does not know
    stratum: str = BEFORE

    @property
    def file_name(self) -> str:
        """The name of its file in the store."""
        return file_name(self.origin, self.id, self.stratum)


@dataclass(frozen=True)
class StoreOptions:
    """The bounds of a store."""

    maximum: int = 1024
    max_bytes: int = 256 << 20


class Reservoir:
    """The index of a store; a place is reserved before a file is written, then filled or freed."""

    def __init__(self, options: StoreOptions, *, seed: int | None = None) -> None:
        self._options = options
        self._random = random.Random(seed)
        self._rows: dict[str, SampleRow] = {}
        self._reserved: dict[str, int] = {}  # id -> bytes
        self._bytes = 0  # of rows and reservations
        self._counts: Counter[str] = Counter()  # captured samples of each stratum
        self._sizes: Counter[str] = Counter()  # their bytes
        self.current = BEFORE  # the stratum of what is captured now
        self.offered: Counter[str] = Counter()  # requests that each stratum was drawn from

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Bytes of the samples in the index, without reservations."""
        return self._bytes - sum(self._reserved.values())

    @property
    def captured(self) -> int:
        """How many captured samples there are."""
        return self._counts.total()

    @property
    def strata(self) -> list[str]:
        """The strata that hold a sample, and the current one; oldest first."""
        named = {self.current, *(name for name, count in self._counts.items() if count)}
        return sorted(named, key=lambda name: (name != BEFORE, name))

    @property
    def is_share_full(self) -> bool:
        """True where the current stratum grows no more: each sample would take another's place."""
        usual = self.bytes // max(1, len(self._rows))
        return not self._has_room(usual) and self._largest(usual) == self.current

    def count(self, stratum: str) -> int:
        """Return how many captured samples a stratum holds."""
        return self._counts[stratum]

    def get(self, identity: str) -> SampleRow | None:
        """Return a sample's row, or None."""
        return self._rows.get(identity)

    def has(self, identity: str) -> bool:
        """True where the sample is there or being written."""
        return identity in self._rows or identity in self._reserved

    def rows(self) -> list[SampleRow]:
        """Return every row, oldest first."""
        return sorted(self._rows.values(), key=lambda row: (row.time, row.id))

    # ---- one sample

    def draw(self, size: int) -> bool:
        """Count one request of about `size` bytes; True where it is to be stored."""
        self.offered[self.current] += 1
        if self._has_room(size) or self._largest(size) != self.current:
            return True
        return self._random.randrange(self.offered[self.current]) < self._counts[self.current]

    def reserve(self, identity: str, size: int, origin: Origin) -> list[SampleRow] | None:
        """Hold a place; return the captured rows evicted for it, or None where no place is."""
        victims: list[SampleRow] = []
        incoming = size if origin == "captured" else 0
        while not self._has_room(size):
            victim = None
            if size <= self._options.max_bytes:
                victim = self._choose_victim(self._largest(incoming))
            if victim is None:
                for row in victims:
                    self.insert(row)
                return None
            self.remove(victim)
            victims.append(victim)
        self._reserved[identity] = size
        self._bytes += size
        return victims

    def release(self, identity: str) -> None:
        """Free a reserved place."""
        self._bytes -= self._reserved.pop(identity)

    def insert(self, row: SampleRow) -> None:
        """Take a row in, whatever the bounds."""
        self._rows[row.id] = row
        self._bytes += row.bytes
        self._count(row, 1)

    def remove(self, row: SampleRow) -> None:
        """Forget a row; one that is not there is no error."""
        if self._rows.get(row.id) == row:
            del self._rows[row.id]
            self._bytes -= row.bytes
            self._count(row, -1)

    def promote(self, row: SampleRow) -> SampleRow:
        """Turn a captured row into an added one."""
        self.remove(row)
        added = replace(row, origin="added", stratum=BEFORE)
        self.insert(added)
        return added

    # ---- many

    def trim(self) -> list[SampleRow]:
        """Evict captured rows until the bounds hold or none is left."""
        victims: list[SampleRow] = []
        while self._is_over() and (victim := self._choose_victim(self._largest(0))):
            self.remove(victim)
            victims.append(victim)
        return victims

    def clear(self) -> list[SampleRow]:
        """Evict all captured rows, and start the counts of requests anew."""
        victims = self._captured(self._counts)
        for row in victims:
            self.remove(row)
        self.offered.clear()
        return victims

    def forget_since(self, since: float) -> list[SampleRow]:
        """Evict what the current stratum captured from `since` on."""
        victims = [row for row in self._captured([self.current]) if row.time >= since]
        for row in victims:
            self.remove(row)
        return victims

    def shift(self, seconds: float) -> None:
        """Move the time of every row."""
        self._rows = {
            identity: replace(row, time=row.time + seconds) for identity, row in self._rows.items()
        }

    def begin(self, stratum: str) -> list[tuple[SampleRow, SampleRow]]:
        """Capture into `stratum` from now on; return the rows that changed theirs, and the new.

        Where that makes too many strata the two oldest become one, but never the one from before
        any drift: what it holds is the last word on what the engine must still do.
        """
        self.current = stratum
        changed: list[tuple[SampleRow, SampleRow]] = []
        while len(self.strata) > MAX_STRATA:
            into, gone = [name for name in self.strata if name not in (BEFORE, stratum)][:2]
            for row in self._captured([gone]):
                moved = replace(row, stratum=into)
                self.replace(row, moved)
                changed.append((row, moved))
            self.offered[into] += self.offered.pop(gone, 0)
        return changed

    def replace(self, row: SampleRow, other: SampleRow) -> None:
        """Put a row into another's place."""
        self.remove(row)
        self.insert(other)

    # ---- parts

    def _captured(self, strata: Iterable[str]) -> list[SampleRow]:
        wanted = set(strata)
        rows = self._rows.values()
        return [row for row in rows if row.origin == "captured" and row.stratum in wanted]

    def _count(self, row: SampleRow, sign: int) -> None:
        if row.origin == "captured":
            self._counts[row.stratum] += sign
            self._sizes[row.stratum] += sign * row.bytes

    def _largest(self, incoming: int) -> str:
        """Return the stratum with the largest share of the bounds, the current one among equals.

        The current one counts with the `incoming` bytes of a sample that is to be captured.
        """

        def share(name: str) -> tuple[float, bool]:
            is_growing = name == self.current and incoming > 0
            places = (self._counts[name] + is_growing) / max(1, self._options.maximum)
            size = (self._sizes[name] + incoming * is_growing) / max(1, self._options.max_bytes)
            return max(places, size), name == self.current

        return max(self.strata, key=share)

    def _choose_victim(self, stratum: str) -> SampleRow | None:
        captured = self._captured([stratum])
        return self._random.choice(captured) if captured else None

    def _has_room(self, size: int) -> bool:
        held = len(self._rows) + len(self._reserved)
        return held < self._options.maximum and self._bytes + size <= self._options.max_bytes

    def _is_over(self) -> bool:
        return len(self._rows) > self._options.maximum or self._bytes > self._options.max_bytes
