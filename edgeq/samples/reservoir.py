"""Which samples stay: a bounded index and the draw for a place in it, without any I/O.

Captured samples are a uniform sample of all requests offered (Vitter 1985, algorithm R); added
ones, a person's, are never evicted. Not thread-safe: the store holds the lock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

Origin = Literal["captured", "added"]


@dataclass(frozen=True)
class SampleRow:
    """What is known of a stored sample without reading it."""

    id: str
    bytes: int
    time: float  # seconds since the epoch
    origin: Origin
    held_out: bool | None = None  # depends on a ratio that the store does not know

    @property
    def file_name(self) -> str:
        """The name of its file in the store."""
        return f"{self.origin}-{self.id}.npz"


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
        self._captured = 0
        self.offered = 0  # requests since the start, or since the last `thin`

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Bytes of the samples in the index, without reservations."""
        return self._bytes - sum(self._reserved.values())

    @property
    def captured(self) -> int:
        """How many captured samples there are."""
        return self._captured

    def get(self, identity: str) -> SampleRow | None:
        """Return a sample's row, or None."""
        return self._rows.get(identity)

    def has(self, identity: str) -> bool:
        """True where the sample is there or being written."""
        return identity in self._rows or identity in self._reserved

    def rows(self) -> list[SampleRow]:
        """Return every row, oldest first."""
        return sorted(self._rows.values(), key=lambda row: (row.time, row.id))

    def draw(self, size: int) -> bool:
        """Count one request of about `size` bytes; True where it is to be stored."""
        self.offered += 1
        return self._has_room(size) or self._random.randrange(self.offered) < self._captured

    def reserve(self, identity: str, size: int) -> list[SampleRow] | None:
        """Hold a place; return the captured rows evicted for it, or None where no place is."""
        victims: list[SampleRow] = []
        while not self._has_room(size):
            if size > self._options.max_bytes or not (victim := self._choose_victim()):
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
        self._captured += row.origin == "captured"

    def remove(self, row: SampleRow) -> None:
        """Forget a row; one that is not there is no error."""
        if self._rows.get(row.id) == row:
            del self._rows[row.id]
            self._bytes -= row.bytes
            self._captured -= row.origin == "captured"

    def promote(self, row: SampleRow) -> SampleRow:
        """Turn a captured row into an added one."""
        self.remove(row)
        added = replace(row, origin="added")
        self.insert(added)
        return added

    def trim(self) -> list[SampleRow]:
        """Evict captured rows until the bounds hold or none is left."""
        victims: list[SampleRow] = []
        while self._is_over() and (victim := self._choose_victim()):
            self.remove(victim)
            victims.append(victim)
        return victims

    def thin(self, keep: int) -> list[SampleRow]:
        """Evict all but `keep` captured rows, by chance, and start the count of requests anew."""
        captured = [row for row in self._rows.values() if row.origin == "captured"]
        self._random.shuffle(captured)
        victims = captured[keep:]
        for row in victims:
            self.remove(row)
        self.offered = self._captured
        return victims

    def _choose_victim(self) -> SampleRow | None:
        captured = [row for row in self._rows.values() if row.origin == "captured"]
        return self._random.choice(captured) if captured else None

    def _has_room(self, size: int) -> bool:
        held = len(self._rows) + len(self._reserved)
        return held < self._options.maximum and self._bytes + size <= self._options.max_bytes

    def _is_over(self) -> bool:
        return len(self._rows) > self._options.maximum or self._bytes > self._options.max_bytes
