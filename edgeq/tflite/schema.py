"""The TFLite schema as Python objects: tables whose fields are attributes, enums with numbers.

The same names as the object API that flatc generates (`schema.TensorT()`, `schema.Padding.SAME`),
made from `schema_tables`: LiteRT ships its API inside a package that not every box can install,
and the package `tflite` has none.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np

from edgeq.tflite.schema_tables import ENUMS, TABLES

Kind = Literal["scalar", "vector", "string", "table", "tables", "union"]

# struct's letter for each scalar; the same names as numpy's
LETTERS = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
    "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """A field of a table: what is in its slot, and what that is made of."""

    name: str
    slot: int
    kind: Kind
    of: str  # the scalar's or element's type, the table or the union
    default: bool | float | None

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """The scalar's or element's type, little-endian as on disk."""
        little_endian: np.dtype[Any] = np.dtype(self.of).newbyteorder("<")
        return little_endian

    @functools.cached_property
    def layout(self) -> struct.Struct:
        """How a scalar lies in the file."""
        return struct.Struct("<" + LETTERS[self.of])


class Table:
    """One table in memory; a field left out has its default, or None where it has none."""

    FIELDS: ClassVar[tuple[Field, ...]] = ()

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            setattr(self, field.name, values.pop(field.name, field.default))
        if values:
            raise AttributeError(f"{type(self).__name__} has no field {sorted(values)[0]!r}")

    def copy(self) -> Table:
        """Return an independent table; vectors are shared, for they are replaced, never written."""
        twin = object.__new__(type(self))
        vars(twin).update({name: _copied(value) for name, value in vars(self).items()})
        return twin


def _copied(value: Any) -> Any:
    if isinstance(value, Table):
        return value.copy()
    return [_copied(each) for each in value] if isinstance(value, list) else value


class Schema:
    """Every enum by its name, and every table by its name and a T; each is made when asked for."""

    def __getattr__(self, name: str) -> Any:
        if name in ENUMS:
            value: Any = SimpleNamespace(**_numbers(ENUMS[name]))
        elif name.endswith("T") and name[:-1] in TABLES:
            value = type(name, (Table,), {"FIELDS": _fields(TABLES[name[:-1]])})
        else:
            raise AttributeError(f"the TFLite schema has no {name!r}")
        setattr(self, name, value)
        return value


def _numbers(words: str) -> dict[str, int]:
    """Return name -> number for `A B C=5 D`."""
    numbers, following = {}, 0
    for word in words.split():
        name, _, given = word.partition("=")
        numbers[name] = int(given) if given else following
        following = numbers[name] + 1
    return numbers


def _fields(words: str) -> tuple[Field, ...]:
    return tuple(_field(slot, word) for slot, word in enumerate(words.split()) if word != "-")


def _field(slot: int, word: str) -> Field:
    name, _, rest = word.partition(":")
    kind, _, default = rest.partition("=")
    if kind in LETTERS:
        return Field(name, slot, "scalar", kind, _value(kind, default or "0"))
    if kind.startswith("["):
        element = kind[1:-1]
        return Field(name, slot, "vector" if element in LETTERS else "tables", element, None)
    if kind.startswith("|"):
        return Field(name, slot, "union", kind[1:], None)
    return Field(name, slot, "string" if kind == "string" else "table", kind, None)


def _value(kind: str, text: str) -> bool | float:
    if kind == "bool":
        return text == "1"
    return float(text) if kind.startswith("float") else int(text)


schema = Schema()

OPERATOR_CODES: dict[str, int] = _numbers(ENUMS["BuiltinOperator"])
OPERATOR_NAMES: dict[int, str] = {code: name for name, code in OPERATOR_CODES.items()}
TYPE_NAMES: dict[int, str] = {code: name for name, code in _numbers(ENUMS["TensorType"]).items()}
