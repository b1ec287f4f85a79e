"""The bytes of a .tflite file -> nothing, or StructureError: every offset must stay inside.

A walk over the flatbuffer before anything unpacks it, by the rules of FlatBuffers' C++ verifier
(flatbuffers/verifier.h), which tflite-runtime never runs. It also bounds what unpacking can cost:
a damaged or hostile file may name one table, name or vector again and again, so the visits and
the bytes referred to are counted. The schema's tables do not nest themselves, hence no depth limit.
"""

from __future__ import annotations

import struct
from typing import Literal, NamedTuple

from edgeq.errors import StructureError
from edgeq.tflite.schema import schema

MAX_TABLES = 200_000  # 184 tensors and 70 ops are 700 tables; unpacking takes 15 us for each
MAX_REFERENCES_PER_BYTE = 2  # a writer refers to each byte once, or shares a few vectors
SPARE_REFERENCES_BYTES = 1 << 16  # so that sharing inside a tiny file is not refused

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


class Field(NamedTuple):
    """A field that refers to another place; `of` is a table, a union or an element's bytes."""

    kind: Literal["vector", "string", "table", "tables", "union"]
    of: str
    element_bytes: int = 1


STRING = Field("string", "")
BYTES, SHORTS, INTS, LONGS = (Field("vector", "", width) for width in (1, 2, 4, 8))


def _longs(*slots: int) -> dict[int, Field]:
    return dict.fromkeys(slots, LONGS)


# Table -> position in its vtable -> what is there; fields left out are scalars. A union's type is
# the field before it. Tables of options without an entry hold scalars alone.
REFERENCES: dict[str, dict[int, Field]] = {
    "Model": {
        6: Field("tables", "OperatorCode"),
        8: Field("tables", "SubGraph"),
        10: STRING,
        12: Field("tables", "Buffer"),
        14: INTS,
        16: Field("tables", "Metadata"),
        18: Field("tables", "SignatureDef"),
        20: Field("tables", "ExternalBufferGroup"),
        22: Field("tables", "ExternalBuffer"),
    },
    "OperatorCode": {6: STRING},
    "SubGraph": {
        4: Field("tables", "Tensor"),
        6: INTS,
        8: INTS,
        10: Field("tables", "Operator"),
        12: STRING,
    },
    "Buffer": {4: BYTES},
    "Metadata": {4: STRING},
    "SignatureDef": {4: Field("tables", "TensorMap"), 6: Field("tables", "TensorMap"), 8: STRING},
    "TensorMap": {4: STRING},
    "ExternalBufferGroup": {4: STRING},
    "ExternalBuffer": {12: STRING},
    "Tensor": {
        4: INTS,
        10: STRING,
        12: Field("table", "QuantizationParameters"),
        16: Field("table", "SparsityParameters"),
        18: INTS,
        22: Field("tables", "VariantSubType"),
    },
    "VariantSubType": {4: INTS},
    "QuantizationParameters": {
        **dict.fromkeys((4, 6, 8), INTS),
        10: LONGS,
        14: Field("union", "QuantizationDetails"),
    },
    "CustomQuantization": {4: BYTES},
    "BlockwiseQuantization": {10: INTS},
    "MultiAxisQuantization": {10: INTS},
    "SparsityParameters": {4: INTS, 6: INTS, 8: Field("tables", "DimensionMetadata")},
    "DimensionMetadata": {
        10: Field("union", "SparseIndexVector"),
        14: Field("union", "SparseIndexVector"),
    },
    "Int32Vector": {4: INTS},
    "Uint16Vector": {4: SHORTS},
    "Uint8Vector": {4: BYTES},
    "Operator": {
        6: INTS,
        8: INTS,
        12: Field("union", "BuiltinOptions"),
        14: BYTES,
        18: BYTES,
        20: INTS,
        28: Field("union", "BuiltinOptions2"),
    },
    "BucketizeOptions": {4: INTS},
    "ConcatEmbeddingsOptions": {6: INTS, 8: INTS},
    "FullyConnectedOptions": {14: BYTES},
    "ReshapeOptions": {4: INTS},
    "SqueezeOptions": {4: INTS},
    "VarHandleOptions": {4: STRING, 6: STRING},
    "StableHLOCompositeOptions": {4: STRING, 8: BYTES},
    "StablehloBroadcastInDimOptions": _longs(4),
    "StablehloCaseOptions": {4: INTS},
    "StablehloConvolutionOptions": {**_longs(4, 6, 8, 10, 18, 24, 30), 12: BYTES, 36: INTS},
    "StablehloCustomCallOptions": {4: STRING, 8: STRING, 12: INTS, 14: BYTES},
    "StablehloDotGeneralOptions": {**_longs(4, 6, 8, 10), 12: INTS},
    "StablehloDynamicSliceOptions": _longs(4),
    "StablehloGatherOptions": _longs(4, 6, 8, 12),
    "StablehloPadOptions": _longs(4, 6, 8),
    "StablehloReduceOptions": _longs(4),
    "StablehloReduceWindowOptions": _longs(4, 6, 8, 10, 12),
    "StablehloScatterOptions": _longs(6, 8, 10),
    "StablehloSliceOptions": _longs(4, 6, 8),
    "StablehloTransposeOptions": _longs(4),
}


def verify(content: bytes) -> None:
    """Walk every table, vector and string that the root of a TFLite flatbuffer leads to.

    Raises:
        StructureError: an offset, length or type leads out of the file or of the schema, or the
            file refers to far more than it holds.
    """
    _Walk(content).run()


class _Walk:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._pending: list[tuple[int, str]] = []
        self._visited = 0
        self._referred_bytes = 0
        self._limit = MAX_REFERENCES_PER_BYTE * len(content) + SPARE_REFERENCES_BYTES

    def run(self) -> None:
        self._queue(self._follow(0), "Model")
        while self._pending:
            self._table(*self._pending.pop())

    def _queue(self, position: int, name: str) -> None:
        self._visited += 1
        if self._visited > MAX_TABLES:
            raise self._fail(position, f"the file leads to more than {MAX_TABLES} tables")
        self._pending.append((position, name))

    def _table(self, position: int, name: str) -> None:
        slots = self._slots(position, name)
        for slot, field in REFERENCES.get(name, {}).items():
            index = slot // 2 - 2
            if index < len(slots) and slots[index]:
                kind = self._union_type(position, slots, index) if field.kind == "union" else 0
                self._reference(position + slots[index], field, kind)

    def _slots(self, position: int, name: str) -> tuple[int, ...]:
        """Return the table's field offsets from its vtable; each lies inside the table."""
        vtable = position - self._read(_I32, position)
        size = self._read(_U16, vtable)
        inline_bytes = self._read(_U16, vtable + 2)
        if size < 4 or size % 2 or vtable % 2 or vtable + size > len(self._content):
            raise self._fail(position, f"a {name} has no valid vtable")
        slots = struct.unpack_from(f"<{size // 2 - 2}H", self._content, vtable + 4)
        if position + inline_bytes > len(self._content) or max(slots, default=0) >= inline_bytes:
            raise self._fail(position, f"a {name} has fields outside itself")
        return slots

    def _union_type(self, position: int, slots: tuple[int, ...], index: int) -> int:
        return self._content[position + slots[index - 1]] if slots[index - 1] else 0

    def _reference(self, position: int, field: Field, union_type: int) -> None:
        target = self._follow(position)
        if field.kind == "table":
            self._queue(target, field.of)
        elif field.kind == "union":
            self._union(target, field.of, union_type)
        elif field.kind == "tables":
            for element in range(self._vector(target, 4)):
                place = target + 4 + 4 * element
                self._queue(self._follow(place), field.of)
        elif field.kind == "string":
            end = target + 4 + self._vector(target, 1)
            if self._content[end : end + 1] != b"\0":
                raise self._fail(target, "a string does not end")
        else:
            self._vector(target, field.element_bytes)

    def _union(self, target: int, union: str, union_type: int) -> None:
        names = {code: name for name, code in vars(getattr(schema, union)).items()}
        name = names.get(union_type, "NONE")
        if name == "NONE":
            raise self._fail(target, f"{union} has the unknown type {union_type}")
        self._queue(target, str(name))

    def _vector(self, position: int, element_bytes: int) -> int:
        length = self._read(_U32, position)
        if position + 4 + length * element_bytes > len(self._content):
            raise self._fail(position, f"a vector of {length} elements leads out of the file")
        self._referred_bytes += length * element_bytes
        if self._referred_bytes > self._limit:
            raise self._fail(position, f"the file refers to more than {self._limit} bytes")
        return length

    def _follow(self, position: int) -> int:
        """Return where the offset at `position` leads; tables and vectors are 4-byte aligned."""
        offset = self._read(_U32, position)
        target = position + offset
        if offset == 0 or target % 4 or target + 4 > len(self._content):
            raise self._fail(position, f"the offset {offset} leads nowhere")
        return target

    def _read(self, layout: struct.Struct, position: int) -> int:
        if not 0 <= position <= len(self._content) - layout.size:
            raise self._fail(position, "a reference leads out of the file")
        value: int = layout.unpack_from(self._content, position)[0]
        return value

    def _fail(self, position: int, what: str) -> StructureError:
        return StructureError(
            f"the flatbuffer is damaged at byte {position} of {len(self._content)}: {what}",
            hint="Copy the file again: it is truncated or damaged.",
        )
