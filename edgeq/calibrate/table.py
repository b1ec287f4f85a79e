"""Histograms -> CalibrationTable: the range of every activation, as JSON and for TensorRT."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgeq.calibrate.archive import (
    histograms_from_npz,
    histograms_to_npz,
    merge_histograms,
)
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.errors import CalibrationError

__all__ = [
    "CalibrationTable",
    "TensorRange",
    "histograms_from_npz",
    "histograms_to_npz",
    "merge_histograms",
    "read_tensorrt_cache",
    "tensorrt_cache",
]

FLOAT32_MAX = float(np.finfo(np.float32).max)
TENSORRT_HEADER = "TRT-8501-EntropyCalibration2"
TENSORRT_LEVELS = 127  # scale = amax / 127


@dataclass(frozen=True)
class TensorRange:
    """The clipping range of one activation, and what was seen of it."""

    lo: float
    hi: float
    method: str  # the one that chose it: a guarded method may have fallen back to another
    divergence: float  # nats; may be infinite
    clipped_ratio: float
    min: float
    max: float


@dataclass(frozen=True)
class CalibrationTable:
    """The ranges of a float model's activations, by tensor name in execution order."""

    model_sha256: str
    method: str
    samples: int
    tensors: Mapping[str, TensorRange]

    @classmethod
    def from_histograms(
        cls, model_sha256: str, method: str, samples: int, histograms: Mapping[str, Histogram]
    ) -> CalibrationTable:
        """Choose every range by one of METHODS.

        Raises:
            CalibrationError: there is no such method.
        """
        if method not in METHODS:
            raise CalibrationError(
                f"the calibration method {method!r} is unknown; there are {', '.join(METHODS)}",
                hint="Use --method with one of these, or auto.",
            )
        tensors = {name: _tensor_range(method, h) for name, h in histograms.items()}
        return cls(model_sha256, method, samples, tensors)

    def for_histograms(self, samples: int, histograms: Mapping[str, Histogram]) -> CalibrationTable:
        """Return a table of other histograms, each tensor's range by the method it has here."""
        tensors = {
            name: _tensor_range(self.tensors[name].method if name in self.tensors else "max", h)
            for name, h in histograms.items()
        }
        return replace(self, samples=samples, tensors=tensors)

    def to_json(self) -> bytes:
        """Return the table as JSON; an infinite divergence becomes null."""
        tensors = {name: _finite(asdict(row)) for name, row in self.tensors.items()}
        table = {
            "model_sha256": self.model_sha256,
            "method": self.method,
            "samples": self.samples,
            "tensors": tensors,
        }
        return json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> CalibrationTable:
        """Read what `to_json` wrote; further keys are ignored.

        Raises:
            CalibrationError: not JSON, or a key is missing or has an impossible value.
        """
        try:
            table = json.loads(content, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:  # also JSONDecodeError, UnicodeDecodeError
            raise _invalid(f"it is not JSON: {error}") from error
        if not isinstance(table, dict):
            raise _invalid(f"it is a {type(table).__name__}; an object is expected")
        samples = _value(table, "samples", int)
        if samples < 0:
            raise _invalid(f"key 'samples' is {samples}; it must not be negative")
        return cls(
            model_sha256=_value(table, "model_sha256", str),
            method=_value(table, "method", str),
            samples=samples,
            tensors={
                name: _read_range(row, f"tensors.{name}")
                for name, row in _value(table, "tensors", dict).items()
            },
        )


def _tensor_range(method: str, histogram: Histogram) -> TensorRange:
    chosen = METHODS[method](histogram)
    is_empty = histogram.count == 0
    return TensorRange(
        lo=chosen.lo,
        hi=chosen.hi,
        method=chosen.method,
        divergence=chosen.divergence,
        clipped_ratio=chosen.clipped_ratio,
        min=0.0 if is_empty else histogram.min,
        max=0.0 if is_empty else histogram.max,
    )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    if not math.isfinite(row["divergence"]):
        row["divergence"] = None
    return row


def _invalid(what: str) -> CalibrationError:
    return CalibrationError(
        f"the calibration table is not usable: {what}",
        hint="Use the table that `edgeq calibrate` wrote, or make it again.",
    )


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _value(table: Mapping[str, Any], key: str, kind: type, where: str = "") -> Any:
    path = f"{where}.{key}" if where else key
    if key not in table:
        raise _invalid(f"key {path!r} is missing")
    value = table[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _invalid(f"key {path!r} is a {type(value).__name__}; {kind.__name__} is expected")
    return value


def _number(row: Mapping[str, Any], key: str, where: str) -> float:
    value = row.get(key, "absent")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and abs(value) <= FLOAT32_MAX):
        raise _invalid(f"key '{where}.{key}' is {value!r}; a number within float32 is expected")
    return float(value)


def _read_range(row: Any, where: str) -> TensorRange:
    if not isinstance(row, dict):
        raise _invalid(f"key {where!r} is a {type(row).__name__}; an object is expected")
    lo, hi = _number(row, "lo", where), _number(row, "hi", where)
    low, high = _number(row, "min", where), _number(row, "max", where)
    clipped = _number(row, "clipped_ratio", where)
    if lo > hi or low > high:
        raise _invalid(f"key {where!r} has lo {lo}, hi {hi}, min {low}, max {high} out of order")
    if not 0 <= clipped <= 1:
        raise _invalid(f"key '{where}.clipped_ratio' is {clipped}; it must lie in 0..1")
    is_infinite = "divergence" in row and row["divergence"] is None
    return TensorRange(
        lo=lo,
        hi=hi,
        method=_value(row, "method", str, where),
        divergence=math.inf if is_infinite else _number(row, "divergence", where),
        clipped_ratio=clipped,
        min=low,
        max=high,
    )


def tensorrt_cache(table: CalibrationTable) -> str:
    """Return the table as a TensorRT calibration cache.

    One line a tensor: its name, and amax / 127 as a big-endian float32 in hexadecimal; amax is the
    larger end of the range, for TensorRT is symmetric. Source: sampleINT8/README.md of TensorRT.

    Raises:
        CalibrationError: a tensor name holds a line break.
    """
    lines = [TENSORRT_HEADER]
    for name, row in table.tensors.items():
        if "\n" in name or "\r" in name:
            raise CalibrationError(
                f"tensor name {name!r} holds a line break; a TensorRT cache has one line a tensor",
                hint="Export as json instead.",
            )
        scale = max(abs(row.lo), abs(row.hi)) / TENSORRT_LEVELS
        lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return "\n".join(lines) + "\n"


def read_tensorrt_cache(text: str) -> dict[str, float]:
    """Return tensor name -> amax of a TensorRT calibration cache.

    Raises:
        CalibrationError: the first line or another one is not that of a cache.
    """
    header, *lines = text.split("\n")
    if not header.startswith("TRT-"):
        raise _invalid_cache(f"its first line is {header[:40]!r}; 'TRT-...' is expected")
    return dict(_read_cache_line(line.rstrip("\r")) for line in lines if line.strip())


def _read_cache_line(line: str) -> tuple[str, float]:
    name, separator, digits = line.rpartition(": ")  # from the right: names may hold ': '
    try:
        (scale,) = struct.unpack(">f", bytes.fromhex(digits))
    except (ValueError, struct.error) as error:
        raise _invalid_cache(f"line {line[:80]!r} does not end in 8 hex digits") from error
    if not separator or not math.isfinite(scale) or scale < 0:
        raise _invalid_cache(f"line {line[:80]!r} has no name or no finite scale")
    return name, scale * TENSORRT_LEVELS


def _invalid_cache(what: str) -> CalibrationError:
    return CalibrationError(
        f"this is not a TensorRT calibration cache: {what}",
        hint="Give the text file that TensorRT or `edgeq export` wrote.",
    )
