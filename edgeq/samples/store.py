"""Live inputs and a person's -> a bounded folder of samples that survives a crash.

The daemon is the only writer; a build reads the same folder meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq import files
from edgeq.errors import SampleError
from edgeq.samples import npz
from edgeq.samples.naming import BEFORE, Origin, is_stratum, new_stratum, parse_file_name
from edgeq.samples.reservoir import Reservoir, SampleRow, StoreOptions

__all__ = ["Sample", "SampleRow", "SampleStore", "StoreOptions", "is_held_out", "sample_id"]

Array = npt.NDArray[Any]

COUNTER = "offered.json"
PAUSE_S = 10.0  # of capturing, after the disk refused a sample
COUNTER_INTERVAL_S = 5.0  # a crash forgets at most this much of the count


@dataclass(frozen=True)
class Sample:
    """One input of the model: arrays as the float model takes them, batch dimension included."""

    id: str  # hex SHA-256 of the content
    inputs: dict[str, Array]
    stratum: str = ""  # of a store, in a build


def sample_id(inputs: Mapping[str, Array]) -> str:
    """Return the hex SHA-256 over names, types, shapes and values; the order does not matter."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        array = np.asarray(inputs[name])
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        header = json.dumps([name, little.dtype.str, array.shape]).encode()
        digest.update(len(header).to_bytes(8, "little") + header)
        digest.update(little.data if little.size else b"")
    return digest.hexdigest()


def is_held_out(id: str, ratio: float) -> bool:
    """True where the sample is kept for verification; a larger ratio only adds samples."""
    number = int.from_bytes(hashlib.sha256(b"held-out:" + id.encode()).digest()[:8], "big")
    return number < ratio * 2.0**64


@dataclass(frozen=True)
class Stratum:
    """The captured samples of one time: before any drift, or since one began."""

    name: str
    samples: int
    offered: int  # requests they were drawn from
    is_current: bool


class SampleStore:
    """A folder of samples, bounded by count and bytes.

    Args:
        directory: made where it is missing; what a crash left half-written is removed.
        options: the bounds; captured samples beyond them are removed at once, added ones stay.
        seed: of the choice which captured samples stay.
        clock: seconds since the epoch.

    The lock guards the index only; files are read and written outside it.
    """

    def __init__(
        self,
        directory: Path,
        options: StoreOptions | None = None,
        *,
        seed: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = directory
        self.options = options or StoreOptions()
        self._clock = clock
        self._lock = threading.Lock()
        self._index = Reservoir(self.options, seed=seed)
        self._paused_until = float("-inf")
        with contextlib.suppress(OSError):  # made once more with the first sample
            directory.mkdir(parents=True, exist_ok=True)
        files.sweep_temporaries(directory)
        self._scan()
        self._read_counter()
        self._counted_at = clock()
        self._unlink(self._index.trim())

    # ---- reading

    def __len__(self) -> int:
        with self._lock:
            return len(self._index)

    @property
    def bytes(self) -> int:
        """Bytes of the samples on disk."""
        with self._lock:
            return self._index.bytes

    @property
    def offered(self) -> int:
        """How many requests the captured samples were drawn from."""
        with self._lock:
            return self._index.offered.total()

    @property
    def stratum(self) -> str:
        """The stratum of what is captured now."""
        with self._lock:
            return self._index.current

    @property
    def is_share_full(self) -> bool:
        """True where the current stratum holds as many samples as it ever may."""
        with self._lock:
            return self._index.is_share_full

    def strata(self) -> list[Stratum]:
        """Return the strata, oldest first; the one of what is captured now may be empty."""
        with self._lock:
            index = self._index
            return [
                Stratum(name, index.count(name), index.offered[name], name == index.current)
                for name in index.strata
            ]

    def rows(self) -> list[SampleRow]:
        """Return what is stored, oldest first."""
        with self._lock:
            return self._index.rows()

    def __iter__(self) -> Iterator[Sample]:
        return self._read_each(self.rows())

    def recent(self, n: int) -> list[Sample]:
        """Return up to `n` samples, newest first."""
        newest = self._read_each(self.rows()[::-1])
        return [sample for _, sample in zip(range(n), newest, strict=False)]

    def _read_each(self, rows: list[SampleRow]) -> Iterator[Sample]:
        for row in rows:
            if (sample := self._read(row)) is not None:
                yield sample

    def _read(self, row: SampleRow) -> Sample | None:
        """Return a sample, or None where its file is gone or damaged; that one is forgotten."""
        path = self.directory / row.file_name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise SampleError(f"the sample {path.name} cannot be read: {error}") from error
        with contextlib.suppress(npz.DamagedError):
            inputs = npz.decode(content)
            if sample_id(inputs) == row.id:
                return Sample(row.id, inputs)
        path.unlink(missing_ok=True)
        self._forget(row)
        return None

    def _forget(self, row: SampleRow) -> None:
        with self._lock:
            self._index.remove(row)

    # ---- writing

    def offer(self, inputs: Mapping[str, Array]) -> bool:
        """Consider a live request; True where it was stored.

        For a while after the disk refused one, none is considered.

        Raises:
            SampleError: the disk refused it.
        """
        if time.monotonic() < self._paused_until:
            return False
        with self._lock:
            accepted = self._index.draw(sum(np.asarray(array).nbytes for array in inputs.values()))
        self._write_counter()
        return accepted and self._store(sample_id(inputs), inputs, "captured")

    def add(self, inputs: Mapping[str, Array]) -> bool:
        """Keep a person's sample, evicting captured ones first; False where it is there already.

        A captured sample with the same content becomes an added one, which counts as new.

        Raises:
            SampleError: the store is full of added samples, or the disk refused it.
        """
        identity = sample_id(inputs)
        if self._promote(identity) or self._store(identity, inputs, "added"):
            return True
        with self._lock:
            if self._index.has(identity):
                return False
            count, size = len(self._index), self._index.bytes
        raise SampleError(
            f"the sample store holds {count} samples in {size} bytes and has no room for another; "
            f"it takes {self.options.maximum} in {self.options.max_bytes}",
            hint="Remove added samples, or raise samples.maximum or samples.max_bytes.",
        )

    def prune(self) -> int:
        """Remove every captured sample and start the counts of requests anew; return how many."""
        with self._lock:
            victims = self._index.clear()
        return self._removed(victims)

    def erase(self) -> int:
        """Remove every sample, a person's too, as `prune` does captured ones."""
        with self._lock:
            victims = [*self._index.clear(), *self._index.rows()]
            for row in victims:
                self._index.remove(row)
        return self._removed(victims)

    def forget_since(self, since: float) -> int:
        """Remove what the current stratum captured from `since` on, in seconds since the epoch."""
        with self._lock:
            victims = self._index.forget_since(since)
        return self._removed(victims)

    def begin_stratum(self) -> str:
        """Let what is captured from now on be of a stratum of its own; return its name.

        Raises:
            SampleError: the disk refused to rename samples; those stay in their stratum.
        """
        with self._lock:
            taken = {self._index.current, *self._index.strata, *self._index.offered}
        return self.go_on_with(new_stratum(self._clock(), taken))

    def go_on_with(self, stratum: str) -> str:
        """Let what is captured from now on be of this stratum; errors as `begin_stratum`."""
        with self._lock:
            changed = self._index.begin(stratum)
        refusals: list[SampleError] = []
        for row, moved in changed:
            try:
                self._rename(row, moved)
            except SampleError as error:  # the others still have to follow their rows
                refusals.append(error)
        self._write_counter(now=True)
        if refusals:
            raise refusals[0]
        return stratum

    def shift(self, seconds: float) -> None:
        """Follow a clock that was set: what was stored an hour ago still was."""
        with self._lock:
            self._index.shift(seconds)

    def flush(self) -> None:
        """Write the count of requests now, as a daemon that stops does."""
        self._write_counter(now=True)

    def _removed(self, victims: list[SampleRow]) -> int:
        self._unlink(victims)
        self._write_counter(now=True)
        return len(victims)

    def _store(self, identity: str, inputs: Mapping[str, Array], origin: Origin) -> bool:
        content = npz.encode(inputs)
        with self._lock:
            if self._index.has(identity):
                return False
            victims = self._index.reserve(identity, len(content), origin)
            stratum = self._index.current if origin == "captured" else BEFORE
        if victims is None:
            return False
        row = SampleRow(identity, len(content), self._clock(), origin, stratum=stratum)
        try:
            files.make_directory(self.directory)
            files.write_atomic(self.directory / row.file_name, content)
        except OSError as error:
            self._paused_until = time.monotonic() + PAUSE_S
            with self._lock:
                self._index.release(identity)
                for victim in victims:  # nothing took their places
                    self._index.insert(victim)
            raise _refused(self.directory, error) from error
        with self._lock:
            self._index.release(identity)
            self._index.insert(row)
        self._unlink(victims)
        return True

    def _promote(self, identity: str) -> bool:
        with self._lock:
            row = self._index.get(identity)
            if row is None or row.origin == "added":
                return False
            added = self._index.promote(row)
        return self._rename(row, added)

    def _rename(self, row: SampleRow, other: SampleRow) -> bool:
        """Let a file follow its row; False where it is gone."""
        try:
            (self.directory / row.file_name).rename(self.directory / other.file_name)
            files.fsync_directory(self.directory)
        except FileNotFoundError:
            self._forget(other)
            return False
        except OSError as error:
            with self._lock:
                self._index.replace(other, row)
            raise _refused(self.directory, error) from error
        with self._lock:
            is_kept = self._index.get(other.id) == other
        if not is_kept:  # evicted meanwhile, under a name that its file did not have yet
            self._unlink([other])
        return is_kept

    def _unlink(self, rows: list[SampleRow]) -> None:
        for row in rows:
            with contextlib.suppress(OSError):  # it comes back with the next start
                (self.directory / row.file_name).unlink(missing_ok=True)

    # ---- what survives a restart

    def _scan(self) -> None:
        """Index the folder; a sample that is there twice stays as the added one."""
        now = self._clock()  # a file of a time to come is of a clock that was wrong, or is
        for path in sorted(self.directory.glob("*"), reverse=True):  # captured-, then added-
            stored = parse_file_name(path.name)
            if stored is None or not path.is_file():
                continue
            if twin := self._index.get(stored.id):
                self._index.remove(twin)
                self._unlink([twin])
            status = path.stat()
            taken = min(status.st_mtime, now)
            row = SampleRow(stored.id, status.st_size, taken, stored.origin, stratum=stored.stratum)
            self._index.insert(row)

    def _read_counter(self) -> None:
        """Take up the counts and the current stratum; without the file, the newest one's."""
        index, counts = self._index, dict[str, int]()
        index.current = index.strata[-1]
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            content = json.loads((self.directory / COUNTER).read_bytes())
            strata = content.get("strata", {BEFORE: content["offered"]})
            counts = {str(name): int(count) for name, count in strata.items()}
            index.current = content["current"] if is_stratum(content["current"]) else index.current
        for name in index.strata:
            index.offered[name] = max(counts.get(name, 0), index.count(name))

    def _write_counter(self, *, now: bool = False) -> None:
        with self._lock:
            if not now and 0 <= self._clock() - self._counted_at < COUNTER_INTERVAL_S:
                return
            self._counted_at, index = self._clock(), self._index
            strata = {name: index.offered[name] for name in index.strata}
            counts = {"offered": sum(strata.values()), "current": index.current, "strata": strata}
        content = json.dumps(counts).encode()
        with contextlib.suppress(OSError):  # a full disk costs the count, not the request
            files.write_atomic(self.directory / COUNTER, content)


def _refused(directory: Path, error: OSError) -> SampleError:
    return SampleError(
        f"the sample could not be stored in {directory}: {error}",
        hint="Free space, or make the state folder writable.",
    )
