"""The short tables say what LiteRT's generated API says."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeq.tflite import schema_tables
from edgeq.tflite.schema import OPERATOR_CODES, OPERATOR_NAMES, TYPE_NAMES, Table, schema

api: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
MAKER = Path(__file__).parents[2] / "tools" / "make_schema.py"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_schema", MAKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _words(entries: dict[str, str]) -> dict[str, list[str]]:
    return {name: words.split() for name, words in entries.items()}


def test_every_table_is_the_generated_one_as_far_as_it_goes(maker: ModuleType) -> None:
    """A later LiteRT may add tables and fields at their end; it cannot change what there is."""
    theirs = _words(maker.tables())
    for name, fields in _words(schema_tables.TABLES).items():
        assert theirs[name][: len(fields)] == fields, name


def test_every_enum_is_the_generated_one_as_far_as_it_goes() -> None:
    for name in schema_tables.ENUMS:
        theirs = {k: v for k, v in vars(getattr(api, name)).items() if isinstance(v, int)}
        assert vars(getattr(schema, name)).items() <= theirs.items(), name


@pytest.mark.parametrize("name", sorted(schema_tables.TABLES))
def test_a_new_table_has_the_generated_defaults(name: str) -> None:
    ours, theirs = vars(getattr(schema, f"{name}T")()), vars(getattr(api, f"{name}T")())
    assert {key: theirs.get(key) for key in ours} == ours


def test_every_name_that_a_field_leads_to_exists() -> None:
    for name in schema_tables.TABLES:
        for field in getattr(schema, f"{name}T").FIELDS:
            if field.kind in ("table", "tables"):
                assert field.of in schema_tables.TABLES, (name, field)
            if field.kind == "union":
                members = set(vars(getattr(schema, field.of))) - {"NONE"}
                assert members <= set(schema_tables.TABLES), (name, field)
                assert field.slot - 1 in {f.slot for f in getattr(schema, f"{name}T").FIELDS}


def test_a_table_is_made_with_its_fields_and_no_others() -> None:
    options = schema.Conv2DOptionsT(strideH=2)
    assert (options.strideH, options.strideW, options.dilationHFactor) == (2, 0, 1)
    assert type(options).__name__ == "Conv2DOptionsT"
    assert isinstance(options, Table)
    with pytest.raises(AttributeError, match="Conv2DOptionsT has no field 'stride'"):
        schema.Conv2DOptionsT(stride=2)


@pytest.mark.parametrize("name", ["NoSuchT", "NoSuch", "Conv2DOptions"])
def test_what_the_schema_does_not_have_is_no_attribute(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(schema, name)


def test_a_class_is_made_once() -> None:
    assert schema.TensorT is schema.TensorT
    assert inspect.isclass(schema.TensorT)


def test_codes_and_names_are_each_others_inverse() -> None:
    assert OPERATOR_CODES["CONV_2D"] == 3
    assert OPERATOR_NAMES[3] == "CONV_2D"
    assert OPERATOR_CODES["CUSTOM"] == 32
    assert OPERATOR_CODES["GELU"] == 150
    assert TYPE_NAMES[9] == "INT8"
    assert len(OPERATOR_NAMES) == len(OPERATOR_CODES)
