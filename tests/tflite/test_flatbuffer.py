"""What is read and written is what LiteRT's generated API reads and writes, to the last field."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from edgeq.errors import StructureError
from edgeq.tflite import flatbuffer
from edgeq.tflite.flatbuffer import CONSTANT_ALIGNMENT_BYTES
from edgeq.tflite.schema import LETTERS, Field, Table, schema
from edgeq.tflite.schema_tables import TABLES
from tests import tiny
from tests.tflite.damage import damaged

api: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")

REAL = ["models/deeplabv3_257_fp32", "models/ultraface_slim320_fp32", "reference/ad01_int8_ref",
        "reference/vww96_int8_ref", "traps/kws_ref_model_float32"]  # fmt: skip


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(ours, Table):
        assert type(ours).__name__ == type(theirs).__name__
        for name, value in vars(ours).items():
            assert_same(value, getattr(theirs, name))
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert (type(ours), ours) == (type(theirs), theirs)


def _filled(name: str, source: random.Random, part: Any) -> Any:
    """Return a generated table with every field drawn at random, some left out."""
    table = getattr(api, f"{name}T")()
    for field in getattr(schema, f"{name}T").FIELDS:
        if source.random() < 0.8:
            _fill(table, field, source, part)
    return table


def _fill(table: Any, field: Field, source: random.Random, part: Any) -> None:
    if field.kind == "scalar":
        is_union_type = hasattr(table, field.name.removesuffix("Type")) and "Type" in field.name
        if not is_union_type:
            setattr(table, field.name, _scalar(field.of, source))
    elif field.kind == "vector":
        values = [_scalar(field.of, source) for _ in range(source.randrange(5))]
        setattr(table, field.name, np.array(values, field.dtype))
    elif field.kind == "string":
        setattr(table, field.name, source.randbytes(source.randrange(9)))
    elif field.kind == "tables":
        setattr(table, field.name, [part(field.of) for _ in range(source.randrange(3))])
    elif field.kind == "table":
        setattr(table, field.name, part(field.of))
    else:
        members = [(n, c) for n, c in vars(getattr(schema, field.of)).items() if c]
        name, number = source.choice(members)
        setattr(table, f"{field.name}Type", number)
        setattr(table, field.name, part(name))


def _scalar(kind: str, source: random.Random) -> bool | float:
    if kind == "bool":
        return source.random() < 0.5
    if kind.startswith("float"):
        return float(np.float32(source.gauss(0, 9)))
    limits = np.iinfo(kind)
    return source.choice([0, 1, int(limits.min), int(limits.max)])


def _drawn(name: str, seed: int) -> Any:
    source = random.Random(f"{name} {seed}")

    def part(inner: str) -> Any:
        return _filled(inner, source, part)

    return part(name)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_travels_between_the_generated_api_and_this_one(name: str) -> None:
    for seed in range(4):
        theirs = _drawn(name, seed)
        builder = flatbuffers.Builder(64)
        builder.Finish(theirs.Pack(builder), b"TFL3")
        ours = flatbuffer.read(bytes(builder.Output()), name)
        rewritten = flatbuffer.write(ours, b"TFL3")
        again = getattr(api, f"{name}T").InitFromPackedBuf(rewritten, 0)
        assert_same(ours, getattr(api, f"{name}T").InitFromPackedBuf(builder.Output(), 0))
        assert_same(ours, again)
        assert flatbuffer.write(flatbuffer.read(rewritten, name), b"TFL3") == rewritten


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_a_real_file_is_read_as_the_generated_api_reads_it(shared: Path, name: str) -> None:
    content = (shared / "data" / f"{name}.tflite").read_bytes()
    ours = flatbuffer.read(content)
    assert_same(ours, api.ModelT.InitFromPackedBuf(content, 0))
    rewritten = flatbuffer.write(ours, b"TFL3")
    assert_same(ours, api.ModelT.InitFromPackedBuf(rewritten, 0))


def test_constants_are_aligned_as_the_schema_demands(tiny_model_bytes: bytes) -> None:
    base = np.frombuffer(tiny_model_bytes, np.uint8).__array_interface__["data"][0]
    for buffer in flatbuffer.read(tiny_model_bytes).buffers:
        if buffer.data is not None:
            start = buffer.data.__array_interface__["data"][0] - base
            assert start % CONSTANT_ALIGNMENT_BYTES == 0


def test_vectors_take_the_schemas_type_from_lists_bytes_and_other_arrays() -> None:
    operator = schema.OperatorT(inputs=[1, 2], outputs=np.array([3], np.int64), customOptions=b"op")
    again = flatbuffer.read(flatbuffer.write(operator, b"TFL3"), "Operator")
    assert (again.inputs.dtype, again.inputs.tolist()) == (np.dtype(np.int32), [1, 2])
    assert again.outputs.tolist() == [3]
    assert again.customOptions.tobytes() == b"op"


def test_every_scalar_type_has_the_width_of_its_letter() -> None:
    for name in LETTERS:
        field = Field("x", 0, "scalar", name, 0)
        assert field.layout.size == field.dtype.itemsize


def test_only_structure_errors_come_from_damaged_tables() -> None:
    content = tiny.tiny_model(3).to_bytes()
    refused = 0
    for file in damaged(content, 800, seed=5):
        try:
            flatbuffer.read(file)
        except StructureError:
            refused += 1
    assert refused > 400


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([(3, 0)], "unknown type 0"),  # BuiltinOptions without its number
        ([(3, 250)], "unknown type 250"),
    ],
)
def test_options_of_an_unknown_kind_are_refused(slots: list[tuple[int, int]], message: str) -> None:
    builder = flatbuffers.Builder(64)
    builder.StartObject(0)
    options = builder.EndObject()
    builder.StartObject(5)
    for slot, number in slots:
        builder.PrependUint8Slot(slot, number, 0)
    builder.PrependUOffsetTRelativeSlot(4, options, 0)
    builder.Finish(builder.EndObject())
    with pytest.raises(StructureError, match=message):
        flatbuffer.read(bytes(builder.Output()), "Operator")
