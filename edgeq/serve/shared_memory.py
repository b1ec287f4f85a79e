"""POSIX shared memory that clients register by key -> tensors read from it and written to it.

Triton's system shared memory extension, with three things otherwise:

- *Whose segments.* The daemon opens what a client names, so a client could borrow its rights. A
  segment is therefore taken only where it was given to the daemon: it belongs to the daemon's own
  user, or to its own group with read and write for the group (`chgrp edgeq`, `chmod g+rw`). What
  is open to everybody on the box (0666) is not thereby open to whoever reaches a port, and being
  root does not help. Libraries keep segments of their own below the daemon's user, which no client
  is to touch: Triton was taken over by way of those of its Python backend (CVE-2025-23319, -23320
  and -23334).
- *No mapping.* A client that truncates a mapped segment ends the process with SIGBUS. Here a tensor
  is one pread or pwrite: 2.7 us instead of 1.2 for a copy out of a mapping at 27 kB, 440 instead of
  160 at 6 MB (CPython 3.11, one core of an AMD EPYC). The input is then a copy that the client
  cannot change while it is used.
- *The file that was registered*, even where its name is removed or given to another one: it stays
  open until it is unregistered and the last request is done with it.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from edgeq.serve.requests import RegionSlice
from edgeq.serve.tensors import quoted

FOLDER = Path("/dev/shm")
MAX_NAME_BYTES = 255  # the kernel's bound of a file name
RESERVED = ("sem.", "cuda.")  # glibc's semaphores, and what the CUDA driver shares with itself

# A FIFO or a device must not hold up or do anything before it is seen what it is.
_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True)
class Region:
    """A registered part of a segment, in bytes; `key` is the segment's name."""

    name: str
    key: str
    offset: int
    byte_size: int


class _Segment:
    """An open file, closed when nobody holds this object any more."""

    def __init__(self, region: Region, descriptor: int) -> None:
        self.region = region
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def position(self, place: RegionSlice) -> int:
        """Return where in the file a place begins; InvalidRequestError where it is not inside."""
        region = self.region
        if place.offset < 0 or place.size < 0 or place.offset + place.size > region.byte_size:
            raise InvalidRequestError(
                f"{_named(region.name)} has {region.byte_size} bytes; "
                f"{place.size} from offset {place.offset} are not inside"
            )
        return region.offset + place.offset


class SharedMemory:
    """The registered regions, of all clients together.

    Args:
        folder: where segments lie.
        max_regions: how many there may be at once; each holds a descriptor.
        max_read_bytes: the most that one tensor may have, as it is copied into memory.
    """

    def __init__(
        self, folder: Path = FOLDER, *, max_regions: int = 256, max_read_bytes: int = 64 << 20
    ) -> None:
        self._folder = folder
        self._max_regions = max_regions
        self._max_read_bytes = max_read_bytes
        self._segments: dict[str, _Segment] = {}
        self._lock = threading.Lock()  # of registering; a request needs one look-up, which is whole

    # ---- registration

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open the segment `key` and call the given part of it `name`.

        Raises:
            ConflictError: there is one of that name, or there are too many.
            InvalidRequestError: the segment cannot be had, or not for a client.
        """
        _check_region(name, offset, byte_size)
        self._check_free(name)
        segment = self._open(Region(name, key, offset, byte_size))
        with self._lock:
            self._check_free(name)
            self._segments[name] = segment

    def _check_free(self, name: str) -> None:
        if name in self._segments:
            raise ConflictError(
                f"{_named(name)} is registered already", hint="Unregister it first."
            )
        if len(self._segments) >= self._max_regions:
            raise ConflictError(
                f"{_named(name)} would be one more than the {self._max_regions} that can be",
                hint="Unregister regions that are not used.",
            )

    def _open(self, region: Region) -> _Segment:
        path = self._folder / _file_name(region.name, region.key)
        try:
            descriptor = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise InvalidRequestError(
                f"{_named(region.name)} cannot be had: {str(path)!r}: {error.strerror}",
                hint="Create the segment first, and let the daemon's group read and write it.",
            ) from error
        try:
            _check_file(region, os.fstat(descriptor))
        except InvalidRequestError:
            os.close(descriptor)
            raise
        return _Segment(region, descriptor)

    def unregister(self, name: str) -> None:
        """Forget a region; as with Triton, one that is not there is forgotten already."""
        with self._lock:
            self._segments.pop(name, None)

    def unregister_all(self) -> None:
        """Forget every region."""
        with self._lock:
            self._segments.clear()

    close = unregister_all

    def status(self, name: str | None = None) -> list[Region]:
        """Return the regions in the order of registration, or the one of that name.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name is None:
            return [segment.region for segment in list(self._segments.values())]
        segment = self._segments.get(name)
        if segment is None:
            raise NotFoundError(f"{_named(name)} is unknown; register it first")
        return [segment.region]

    # ---- tensors

    def read(self, place: RegionSlice) -> memoryview:
        """Copy bytes out of a region; read-only.

        Raises:
            InvalidRequestError: unknown, out of bounds, or truncated by its client.
            TooLargeError: more than a tensor may have.
        """
        segment = self._segment(place)
        position = segment.position(place)
        if place.size > self._max_read_bytes:
            raise TooLargeError(
                f"{_named(place.region)} is asked for {place.size} bytes; "
                f"at most {self._max_read_bytes} are taken",
                hint="Raise server.max_body_bytes, which bounds tensors here, too.",
            )
        try:
            content = os.pread(segment.descriptor, place.size, position)
        except OSError as error:
            raise _failed("read", place, error) from error
        if len(content) != place.size:
            raise _truncated(place)
        return memoryview(content)

    def write(self, place: RegionSlice, content: Any) -> None:
        """Copy bytes into a region; a file that its client truncated is not made longer.

        Args:
            place: where; it may be larger than the content.
            content: bytes, or an array of C order.

        Raises:
            InvalidRequestError: unknown, out of bounds, too small, or truncated by its client.
        """
        segment = self._segment(place)
        position = segment.position(place)
        size = memoryview(content).nbytes
        if size > place.size:
            raise InvalidRequestError(
                f"{_named(place.region)} is given {place.size} bytes of room; the output has {size}"
            )
        if os.fstat(segment.descriptor).st_size < position + size:
            raise _truncated(place)
        try:
            written = os.pwrite(segment.descriptor, content, position)
        except OSError as error:
            raise _failed("written", place, error) from error
        if written != size:
            raise _truncated(place)

    def _segment(self, place: RegionSlice) -> _Segment:
        segment = self._segments.get(place.region)
        if segment is None:
            raise InvalidRequestError(
                f"{_named(place.region)} is unknown",
                hint="Register it; regions do not outlast the daemon.",
            )
        return segment


def _check_region(name: str, offset: int, byte_size: int) -> None:
    if not 0 < len(name.encode(errors="replace")) <= MAX_NAME_BYTES:
        raise InvalidRequestError(
            f"{_named(name)} has a name of {len(name)} characters; "
            f"1 to {MAX_NAME_BYTES} bytes are expected"
        )
    if offset < 0 or byte_size < 1:
        raise InvalidRequestError(
            f"{_named(name)} has offset {offset} and byte_size {byte_size}; "
            "0 or more and 1 or more are expected"
        )


def _file_name(name: str, key: str) -> str:
    """Return the one name below the folder that a key stands for."""
    file = key.removeprefix("/")
    is_name = file not in ("", ".", "..") and not set("/\0") & set(file)
    if not is_name or len(file.encode(errors="replace")) > MAX_NAME_BYTES:
        raise InvalidRequestError(
            f"{_named(name)} has key {quoted(key)}; a segment's name is expected: "
            f"no slash but a leading one, at most {MAX_NAME_BYTES} bytes"
        )
    if not key.isprintable() or file.startswith(RESERVED):
        raise InvalidRequestError(f"{_named(name)} has key {quoted(key)}, which no client's has")
    return file


def _check_file(region: Region, found: os.stat_result) -> None:
    """Hold an open file against the rule of whose segments are taken."""
    if not stat.S_ISREG(found.st_mode):
        kind = stat.filemode(found.st_mode)
        raise InvalidRequestError(
            f"{_named(region.name)} has key {quoted(region.key)}, which is no segment: {kind}"
        )
    is_own = found.st_uid == os.geteuid()
    is_shared = found.st_gid == os.getegid() and found.st_mode & 0o060 == 0o060
    if not (is_own or is_shared):
        raise InvalidRequestError(
            f"{_named(region.name)} has key {quoted(region.key)}, of user {found.st_uid}, group "
            f"{found.st_gid}, {stat.filemode(found.st_mode)}; the daemon's user {os.geteuid()}, or "
            f"its group {os.getegid()} with rw, is expected",
            hint="Give the segment to the daemon's group (chgrp, chmod g+rw).",
        )
    if region.offset + region.byte_size > found.st_size:
        raise InvalidRequestError(
            f"{_named(region.name)} has {region.byte_size} bytes from offset {region.offset}; "
            f"the segment {quoted(region.key)} has {found.st_size}"
        )


def _named(name: str) -> str:
    return f"shared memory region {quoted(name)}"


def _truncated(place: RegionSlice) -> InvalidRequestError:
    return InvalidRequestError(
        f"{_named(place.region)} was truncated: {place.size} bytes from offset {place.offset} "
        "are not there any more",
        hint="Unregister it, and register a segment that keeps its size.",
    )


def _failed(what: str, place: RegionSlice, error: OSError) -> InvalidRequestError:
    return InvalidRequestError(
        f"{_named(place.region)} cannot be {what}: {error.strerror}",
        hint="Check that /dev/shm has room for the whole segment.",
    )
