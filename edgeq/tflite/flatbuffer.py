"""The bytes of a flatbuffer <-> the tables of the schema.

Reading trusts nothing: every offset, length and type is checked before it is followed, by the
rules of FlatBuffers' C++ verifier (flatbuffers/verifier.h), which tflite-runtime never runs. It
also bounds what a file can cost: a damaged or hostile one may name one table, name or vector again
and again, so visits and bytes referred to are counted. Tables of this schema never nest themselves,
hence no limit of depth.
"""

from __future__ import annotations

import struct
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

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
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(_write_table(builder, table), identifier)
    return bytes(builder.Output())


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


def _write_table(builder: flatbuffers.Builder, table: Any) -> int:
    """Children first, as a flatbuffer is written from its end."""
    offsets = {
        field.slot: _write_child(builder, field, getattr(table, field.name))
        for field in table.FIELDS
        if field.kind != "scalar" and getattr(table, field.name) is not None
    }
    builder.StartObject(max((field.slot for field in table.FIELDS), default=-1) + 1)
    for field in table.FIELDS:
        if field.kind == "scalar":
            value = getattr(table, field.name)
            if value != field.default:  # PrependSlot would skip it too, after checking both
                builder.PrependSlot(_FLAGS[field.of], field.slot, value, field.default)
        elif field.slot in offsets:
            builder.PrependUOffsetTRelativeSlot(field.slot, offsets[field.slot], 0)
    return int(builder.EndObject())


def _write_child(builder: flatbuffers.Builder, field: Field, value: Any) -> int:
    if field.kind == "vector":
        is_constant = field == _CONSTANT
        return _write_vector(builder, field, value, CONSTANT_ALIGNMENT_BYTES if is_constant else 1)
    if field.kind == "string":
        return int(builder.CreateString(value))
    if field.kind != "tables":
        return _write_table(builder, value)
    offsets = [_write_table(builder, table) for table in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _write_vector(builder: flatbuffers.Builder, field: Field, value: Any, alignment: int) -> int:
    """As Builder.CreateNumpyVector, with the schema's element type and an alignment."""
    data = value if isinstance(value, bytes) else np.asarray(value, field.dtype).tobytes()
    width = field.dtype.itemsize
    builder.StartVector(width, len(data) // width, max(alignment, width))
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


_CONSTANT = next(field for field in schema.BufferT.FIELDS if field.name == "data")
_FLAGS = {
    name: getattr(number_types, f"{name.capitalize()}Flags")
    for name in ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
                 "float32", "float64")
}  # fmt: skip
