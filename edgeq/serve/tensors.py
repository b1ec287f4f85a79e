"""JSON values or raw bytes <-> numpy arrays, by the Open Inference Protocol's datatypes."""

from __future__ import annotations

import itertools
import math
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.tflite.runtime import Array

# Little-endian on the wire, as the specification of binary tensors says.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
DATATYPES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items()}

MAX_AXES = 32  # numpy 1.x's own limit
MAX_EXTENT = (1 << 31) - 1  # TFLite's extents are int32

_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
_JSON_WORDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a fraction",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}

quoted = reprlib.repr  # what a client sent, short enough for a message


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return the protocol's name; a type that it does not have is named as numpy names it."""
    if dtype.kind in "SUO":
        return "BYTES"
    return DATATYPES.get(dtype) or dtype.name.upper()


def dtype_of(name: str, datatype: object) -> np.dtype[Any]:
    """Return the numpy type of the input `name`.

    Raises:
        InvalidRequestError: there is no such datatype, or models here cannot take it.
    """
    dtype = DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is not None:
        return dtype
    raise InvalidRequestError(
        f"input {quoted(name)} has datatype {quoted(datatype)}; one of {', '.join(DTYPES)} is taken"
    )


def check_shape(name: str, shape: object) -> tuple[int, ...]:
    """Return the shape that a client declared for the input `name`.

    Raises:
        InvalidRequestError: not a list of sensible extents.
    """
    if type(shape) is list and len(shape) <= MAX_AXES:
        for extent in shape:
            if type(extent) is not int or not 1 <= extent <= MAX_EXTENT:
                break
        else:
            return tuple(shape)
    raise InvalidRequestError(
        f"input {quoted(name)} has shape {quoted(shape)}; "
        f"a list of at most {MAX_AXES} integers from 1 to {MAX_EXTENT} is expected"
    )


def check_size(name: str, size: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Hold a number of bytes against what datatype and shape make; InvalidRequestError."""
    expected = math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InvalidRequestError(
            f"input {quoted(name)} has {size} bytes; {datatype_of(dtype)} of shape "
            f"{quoted(list(shape))} takes {expected}"
        )


def from_binary(
    name: str, content: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Array:
    """View raw bytes as an array, without a copy; maybe unaligned, always read-only.

    Raises:
        InvalidRequestError: the size is not what datatype and shape make.
    """
    check_size(name, len(content), dtype, shape)
    if dtype.kind == "b" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
        raise InvalidRequestError(f"input {quoted(name)} is BOOL and holds bytes that are not 0, 1")
    return np.frombuffer(content, dtype).reshape(shape)


def from_json(name: str, data: object, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Make an array of JSON `data`, flat or nested as `shape` says.

    Raises:
        InvalidRequestError: wrong count, nesting or type, or a value out of range.
    """
    if not isinstance(data, list):
        raise InvalidRequestError(f"input {quoted(name)} has data {quoted(data)}; a list is taken")
    values = _flat(name, data, shape)
    if len(values) != math.prod(shape):
        raise InvalidRequestError(
            f"input {quoted(name)} has {len(values)} values; "
            f"shape {quoted(list(shape))} takes {math.prod(shape)}"
        )
    # Before numpy sees them: it would make text of mixed values, as wide as the widest.
    _check_types(name, values, dtype)
    convert = _floats if dtype.kind == "f" else _integers if dtype.kind in "iu" else np.array
    try:
        return convert(values, dtype).reshape(shape)
    except OverflowError as error:
        raise InvalidRequestError(
            f"input {quoted(name)} holds a value beyond what {datatype_of(dtype)} can"
        ) from error


def _flat(name: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if not data or type(data[0]) is not list:
        return data
    level: list[Any] = [data]
    for axis, extent in enumerate(shape):
        wrong = [part for part in level if type(part) is not list or len(part) != extent]
        if wrong:
            raise InvalidRequestError(
                f"input {quoted(name)} has {quoted(wrong[0])} nested at axis {axis}; "
                f"shape {quoted(list(shape))} takes a list of {extent} there"
            )
        level = list(itertools.chain.from_iterable(level))
    return level


def _check_types(name: str, values: list[Any], dtype: np.dtype[Any]) -> None:
    wrong = set(map(type, values)) - _JSON_TYPES[dtype.kind]
    if wrong:
        words = sorted(_JSON_WORDS[kind] for kind in wrong)
        raise InvalidRequestError(
            f"input {quoted(name)} holds {words[0]}; {datatype_of(dtype)} is expected"
        )


def _integers(values: list[int], dtype: np.dtype[Any]) -> Array:
    # numpy 1.x wraps a negative number into UINT64 without a word.
    if dtype == np.uint64 and min(values) < 0:
        raise OverflowError
    wide = np.array(values, np.uint64 if dtype == np.uint64 else np.int64)
    limits = np.iinfo(dtype)
    if wide.min() < limits.min or wide.max() > limits.max:
        raise OverflowError
    return wide.astype(dtype, copy=False)


def _floats(values: list[float], dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        array = np.array(values, np.float64).astype(dtype, copy=False)
    if not np.isfinite(array).all():
        raise OverflowError
    return array


def to_binary(name: str, array: Array) -> Array:
    """Return the bytes of an output as a flat uint8 array, copied only where it is not contiguous.

    Raises:
        EngineError: the protocol has no datatype for it.
    """
    dtype = _sendable(name, array)
    return np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)


def to_json(name: str, array: Array) -> list[Any]:
    """Return the values of an output, flat.

    Raises:
        EngineError: the protocol has no datatype for it, or JSON has no word for a value.
    """
    dtype = _sendable(name, array)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise EngineError(
            f"output {name!r} holds NaN or infinity, which JSON cannot carry",
            hint="Ask for binary_data to get the values as they are.",
        )
    values: list[Any] = array.reshape(-1).tolist()
    return values


def _sendable(name: str, array: Array) -> np.dtype[Any]:
    datatype = DATATYPES.get(array.dtype)
    if datatype is None:
        raise EngineError(f"output {name!r} has type {array.dtype}, which the protocol cannot send")
    return DTYPES[datatype]


def classify(name: str, array: Array, classes: int) -> tuple[list[int], list[str]]:
    """Return shape and `value:index` strings of the highest scores, as Triton's classification.

    The first axis is the batch where there are two or more.

    Raises:
        EngineError: the output holds something that has no order.
    """
    _sendable(name, array)
    batch = array.shape[0] if array.ndim > 1 else 1
    rows = array.reshape(batch, array.size // max(batch, 1))
    count = min(classes, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    found = [_class_text(row[i], i) for row, best in zip(rows, order, strict=True) for i in best]
    return ([len(rows), count] if array.ndim > 1 else [count]), found


def _class_text(value: Any, index: int) -> str:
    return f"{value:f}:{index}" if isinstance(value, np.floating) else f"{value}:{index}"


def bytes_to_binary(elements: Sequence[str]) -> bytes:
    """Encode BYTES elements: each its length as 4 little-endian bytes, then itself."""
    encoded = [element.encode() for element in elements]
    return b"".join(len(element).to_bytes(4, "little") + element for element in encoded)
