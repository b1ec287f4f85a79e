"""Live inputs and a person's -> a bounded folder of samples that survives a crash.

The daemon is the only writer; a build reads the same folder meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
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
from edgeq.samples.reservoir import Origin, Reservoir, SampleRow, StoreOptions

__all__ = ["Sample", "SampleRow", "SampleStore", "StoreOptions", "is_held_out", "sample_id"]

Array = npt.NDArray[Any]

COUNTER = "offered.json"
COUNTER_INTERVAL_S = 5.0  # a crash forgets at most this much of the count
_FILE_NAME = re.compile(r"(captured|added)-([0-9a-f]{64})\.npz")


@dataclass(frozen=True)
class Sample:
    """One input of the model: arrays as the float model takes them, batch dimension included."""

    id: str  # hex SHA-256 of the content
    inputs: dict[str, Array]


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
        directory.mkdir(parents=True, exist_ok=True)
        files.sweep_temporaries(directory)
        self._scan()
        self._index.offered = self._read_counter()
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
            return self._index.offered

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

        Raises:
            SampleError: the disk refused it.
        """
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
        """Remove every captured sample and start the count of requests anew; return how many."""
        return self.thin(0)

    def thin(self, keep: int) -> int:
        """Remove all but `keep` captured samples, so that new ones get in; return how many."""
        with self._lock:
            victims = self._index.thin(keep)
        self._unlink(victims)
        self._write_counter(now=True)
        return len(victims)

    def flush(self) -> None:
        """Write the count of requests now, as a daemon that stops does."""
        self._write_counter(now=True)

    def _store(self, identity: str, inputs: Mapping[str, Array], origin: Origin) -> bool:
        content = npz.encode(inputs)
        with self._lock:
            if self._index.has(identity):
                return False
            victims = self._index.reserve(identity, len(content))
        if victims is None:
            return False
        row = SampleRow(identity, len(content), self._clock(), origin)
        try:
            self._unlink(victims)
            files.write_atomic(self.directory / row.file_name, content)
        except OSError as error:
            with self._lock:
                self._index.release(identity)
            raise _refused(self.directory, error) from error
        with self._lock:
            self._index.release(identity)
            self._index.insert(row)
        return True

    def _promote(self, identity: str) -> bool:
        with self._lock:
            row = self._index.get(identity)
            if row is None or row.origin == "added":
                return False
            added = self._index.promote(row)
        try:
            (self.directory / row.file_name).rename(self.directory / added.file_name)
            files.fsync_directory(self.directory)
        except FileNotFoundError:
            self._forget(added)
            return False
        except OSError as error:
            self._forget(added)
            raise _refused(self.directory, error) from error
        return True

    def _unlink(self, rows: list[SampleRow]) -> None:
        for row in rows:
            (self.directory / row.file_name).unlink(missing_ok=True)

    # ---- what survives a restart

    def _scan(self) -> None:
        """Index the folder; a sample that is there twice stays as the added one."""
        for path in sorted(self.directory.iterdir(), reverse=True):  # captured-, then added-
            match = _FILE_NAME.fullmatch(path.name)
            if match is None or not path.is_file():
                continue
            if twin := self._index.get(match[2]):
                self._index.remove(twin)
                self._unlink([twin])
            status = path.stat()
            origin: Origin = "added" if match[1] == "added" else "captured"
            self._index.insert(SampleRow(match[2], status.st_size, status.st_mtime, origin))

    def _read_counter(self) -> int:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads((self.directory / COUNTER).read_bytes())
            return max(int(content["offered"]), self._index.captured)
        return self._index.captured

    def _write_counter(self, *, now: bool = False) -> None:
        with self._lock:
            if not now and self._clock() - self._counted_at < COUNTER_INTERVAL_S:
                return
            self._counted_at, offered = self._clock(), self._index.offered
        content = json.dumps({"offered": offered}).encode()
        with contextlib.suppress(OSError):  # a full disk costs the count, not the request
            files.write_atomic(self.directory / COUNTER, content)


def _refused(directory: Path, error: OSError) -> SampleError:
    return SampleError(
        f"the sample could not be stored in {directory}: {error}",
        hint="Free space, or make the state folder writable.",
    )
