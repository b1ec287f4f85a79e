"""The flatbuffer object API of the TFLite schema: LiteRT's own, or the package `tflite`."""

from __future__ import annotations

from typing import Any

try:
    from ai_edge_litert import schema_py_generated as _schema
except ImportError:  # a box with tflite-runtime only: the extra `tflite` brings the schema
    import tflite as _schema

schema: Any = _schema


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


OPERATOR_NAMES: dict[int, str] = _names(schema.BuiltinOperator)
OPERATOR_CODES: dict[str, int] = {name: code for code, name in OPERATOR_NAMES.items()}
TYPE_NAMES: dict[int, str] = _names(schema.TensorType)
