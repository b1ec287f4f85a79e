"""The bytes of a flatbuffer <-> the tables of the schema.

Reading trusts nothing: every offset, length and type is checked before it is followed, by the
rules of FlatBuffers' C++ verifier (flatbuffers/verifier.h), which tflite-runtime never runs. It
also bounds what a file can cost: a damaged or hostile one may name one table, name or vector again
and again, so visits and bytes referred to are counted. Tables of this schema never nest themselves,
hence no limit of depth.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.errors import StructureError
from edgeq.tflite.schema import Field, Table, schema

MAX_TABLES = 200_000  # a model of 184 tensors and 70 ops has 700; reading takes 10 us for each
MAX_REFERENCES_PER_BYTE = 2  # a writer refers to each byte once, or shares a few vectors
SPARE_REFERENCES_BYTES = 1 << 16  # so that sharing inside a tiny file is not refused
CONSTANT_ALIGNMENT_BYTES = 16  # schema.fbs: Buffer.data has force_align: 16

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


def read(content: bytes, root: str = "Model") -> Any:
    """Return the root table with all that it leads to; vectors are views into `content`.

    Raises:
        StructureError: an offset, length or type leads out of the file or of the schema, or the
            file refers to far more than it holds.
    """
    return _Reader(content).root(root)


def write(table: Any, identifier: bytes) -> bytes:
    """Return a flatbuffer whose root is `table`; the same tables always give the same bytes."""
    return _Writer(identifier).file(table)


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._bytes = np.frombuffer(content, np.uint8)
        self._visited = 0
        self._referred_bytes = 0
        self._limit = MAX_REFERENCES_PER_BYTE * len(content) + SPARE_REFERENCES_BYTES

    def root(self, name: str) -> Table:
        return self._table(self._follow(0), name)

    def _table(self, position: int, name: str) -> Table:
        self._visited += 1
        if self._visited > MAX_TABLES:
            raise self._fail(position, f"the file leads to more than {MAX_TABLES} tables")
        table: Table = getattr(schema, f"{name}T")()
        slots = self._slots(position, name)
        for field in table.FIELDS:
            if field.slot < len(slots) and slots[field.slot]:
                value = self._value(position + slots[field.slot], field, table)
                setattr(table, field.name, value)
        return table

    def _slots(self, position: int, name: str) -> tuple[int, ...]:
        """Return the fields' offsets from the table's vtable; each lies inside the table."""
        vtable = position - self._scalar(_I32, position)
        size, inline_bytes = self._scalar(_U16, vtable), self._scalar(_U16, vtable + 2)
        if size < 4 or size % 2 or vtable % 2 or vtable + size > len(self._content):
            raise self._fail(position, f"a {name} has no valid vtable")
        slots = struct.unpack_from(f"<{size // 2 - 2}H", self._content, vtable + 4)
        if position + inline_bytes > len(self._content) or max(slots, default=0) >= inline_bytes:
            raise self._fail(position, f"a {name} has fields outside itself")
        return slots

    def _value(self, position: int, field: Field, table: Table) -> Any:
        if field.kind == "scalar":
            return self._scalar(field.layout, position)
        target = self._follow(position)
        if field.kind == "vector":
            start, end = self._vector(target, field.dtype.itemsize)
            return self._bytes[start:end].view(field.dtype)
        if field.kind == "string":
            return self._string(target)
        if field.kind == "tables":
            places = range(*self._vector(target, 4), 4)
            return [self._table(self._follow(place), field.of) for place in places]
        name = field.of if field.kind == "table" else self._union(target, field, table)
        return self._table(target, name)

    def _union(self, target: int, field: Field, table: Table) -> str:
        number = getattr(table, f"{field.name}Type")
        for name, code in vars(getattr(schema, field.of)).items():
            if code == number != 0:
                return str(name)
        raise self._fail(target, f"{field.of} has the unknown type {number}")

    def _string(self, target: int) -> bytes:
        start, end = self._vector(target, 1)
        if self._content[end : end + 1] != b"\0":
            raise self._fail(target, "a string does not end")
        return self._content[start:end]

    def _vector(self, position: int, element_bytes: int) -> tuple[int, int]:
        """Return where a vector's elements begin and end."""
        start, length = position + 4, self._scalar(_U32, position)
        end = start + length * element_bytes
        if end > len(self._content):
            raise self._fail(position, f"a vector of {length} elements leads out of the file")
        self._referred_bytes += end - start
        if self._referred_bytes > self._limit:
            raise self._fail(position, f"the file refers to more than {self._limit} bytes")
        return start, end

    def _follow(self, position: int) -> int:
        """Return where the offset at `position` leads; tables and vectors are 4-byte aligned."""
        offset: int = self._scalar(_U32, position)
        target = position + offset
        if offset == 0 or target % 4 or target + 4 > len(self._content):
            raise self._fail(position, f"the offset {offset} leads nowhere")
        return target

    def _scalar(self, layout: struct.Struct, position: int) -> Any:
        if not 0 <= position <= len(self._content) - layout.size:
            raise self._fail(position, "a reference leads out of the file")
        return layout.unpack_from(self._content, position)[0]

    def _fail(self, position: int, what: str) -> StructureError:
        return StructureError(
            f"the flatbuffer is damaged at byte {position} of {len(self._content)}: {what}",
            hint="Copy the file again: it is truncated or damaged.",
        )


class _Writer:
    """Writes from front to back: a table, then what it leads to.

    Python's flatbuffers.Builder writes from the end, five calls to each field. Measured on files
    of UltraFace and of one op: a third of its time.
    """

    def __init__(self, identifier: bytes) -> None:
        self._out = bytearray(4) + identifier
        self._vtables: dict[bytes, int] = {}  # tables with the same fields share one

    def file(self, root: Table) -> bytes:
        _U32.pack_into(self._out, 0, self._table(root))
        return bytes(self._out)

    def _align(self, to: int, ahead: int = 0) -> None:
        """Pad so that what is written after `ahead` more bytes begins at a multiple of `to`."""
        self._out += bytes(-(len(self._out) + ahead) % to)

    def _table(self, table: Table) -> int:
        present = _present(table)
        layout = _layout(type(table).__name__, tuple(field.slot for field, _ in present))
        vtable = self._vtables.get(layout.vtable)
        if vtable is None:
            self._align(2)
            vtable = self._vtables[layout.vtable] = len(self._out)
            self._out += layout.vtable
        self._align(layout.alignment)
        start = len(self._out)
        self._out += bytes(layout.size)
        _I32.pack_into(self._out, start, start - vtable)
        for (field, value), place in zip(present, layout.places, strict=True):
            if field.kind == "scalar":
                field.layout.pack_into(self._out, start + place, value)
            else:
                self._refer(start + place, self._child(field, value))
        return start

    def _refer(self, place: int, target: int) -> None:
        _U32.pack_into(self._out, place, target - place)

    def _child(self, field: Field, value: Any) -> int:
        if field.kind == "vector":
            return self._vector(field, value)
        if field.kind == "string":
            return self._bytes(value, 1, 1, end=b"\0")
        if field.kind != "tables":
            return self._table(value)
        start = self._bytes(bytes(4 * len(value)), 4, 4)
        for number, table in enumerate(value):
            self._refer(start + 4 + 4 * number, self._table(table))
        return start

    def _vector(self, field: Field, value: Any) -> int:
        data = value if isinstance(value, bytes) else np.asarray(value, field.dtype).tobytes()
        width = field.dtype.itemsize
        alignment = CONSTANT_ALIGNMENT_BYTES if field is _CONSTANT else width
        return self._bytes(data, width, alignment)

    def _bytes(self, data: bytes, width: int, alignment: int, end: bytes = b"") -> int:
        self._align(max(4, alignment), ahead=4)
        start = len(self._out)
        self._out += _U32.pack(len(data) // width)
        self._out += data
        self._out += end
        return start


@dataclass(frozen=True)
class _Layout:
    """Where the fields of a table lie, and what says so in the file."""

    vtable: bytes
    size: int
    alignment: int
    places: tuple[int, ...]


def _present(table: Table) -> list[tuple[Field, Any]]:
    """Return the fields that are not at their default, in the order of their slots."""
    fields = ((field, getattr(table, field.name)) for field in table.FIELDS)
    return [(field, value) for field, value in fields if value is not None and (
        field.kind != "scalar" or value != field.default)]  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _layout(name: str, slots: tuple[int, ...]) -> _Layout:
    """Lay the widest fields first, so that no space is left between."""
    fields = getattr(schema, name).FIELDS
    widths = {f.slot: f.dtype.itemsize if f.kind == "scalar" else 4 for f in fields}
    places, size = {}, 4  # behind the offset to the vtable
    for slot in sorted(slots, key=lambda slot: (-widths[slot], slot)):
        size += -size % widths[slot]
        places[slot] = size
        size += widths[slot]
    entries = [places.get(slot, 0) for slot in range(max(slots, default=-1) + 1)]
    vtable = struct.pack(f"<{2 + len(entries)}H", 4 + 2 * len(entries), size, *entries)
    alignment = max((widths[slot] for slot in slots), default=4)
    return _Layout(vtable, size, max(4, alignment), tuple(places[slot] for slot in slots))


_CONSTANT = next(field for field in schema.BufferT.FIELDS if field.name == "data")
