"""What the probe's child wrote -> a Probe, or the reason that it gave; nothing of it is trusted.

Who broke into the child holds its output: every value is checked for its type and its size, texts
are cut and made printable, and a reason can only be one of the child's own stages.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.errors import DropError
from edgeq.intake.sandbox import PURPOSES, Measure
from edgeq.tflite.runtime import TensorSpec

STAGES = ("structure", "load", "run", "sandbox")  # that the child itself may name
MAX_REASON = 2000  # characters
MAX_EXTENT = (1 << 31) - 1
MAX_BYTES = 1 << 53  # what a JSON number holds exactly
_DTYPE = re.compile(r"\|b1|[<|=>]?[iu][1248]|[<=>]?f[248]")


@dataclass(frozen=True)
class Probe:
    """What the disposable child found out about a model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: dict[str, int]  # op name -> how many
    quantized: bool  # arrived as integers: it keeps its own scales
    finite: bool  # no NaN or infinity on small random inputs
    memory_bytes: int
    load_s: float
    run_s: float
    sandbox: tuple[Measure, ...]  # how it was confined


def parse(written: bytes) -> dict[str, Any]:
    """Return the JSON object in it; {} where there is none."""
    try:
        parsed = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def refusal(answer: dict[str, Any]) -> DropError | None:
    """Return the reason that the child gave for refusing the model."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return None
    message, stage, hint = (
        words(str(error.get(part, ""))) for part in ("message", "stage", "hint")
    )
    return DropError(message, stage=stage if stage in STAGES else "probe", hint=hint)


def words(text: str) -> str:
    """Return a text of the child's as a person may be shown it."""
    cut = text[:MAX_REASON]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def read(found: Any) -> Probe:
    """Return what a child found.

    Raises:
        ValueError: it is not what the probe writes.
    """
    found = _checked(found, dict)
    return Probe(
        inputs=tuple(_spec(item) for item in _checked(found.get("inputs"), list)),
        outputs=tuple(_spec(item) for item in _checked(found.get("outputs"), list)),
        ops={_name(k): _count(v) for k, v in _checked(found.get("ops"), dict).items()},
        quantized=_checked(found.get("quantized"), bool),
        finite=_checked(found.get("finite"), bool),
        memory_bytes=_count(found.get("memory_bytes")),
        load_s=_seconds(found.get("load_s")),
        run_s=_seconds(found.get("run_s")),
        sandbox=tuple(_measure(item) for item in _checked(found.get("sandbox"), list)),
    )


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:  # True would pass for a number
        raise ValueError(f"{str(value)[:100]!r} is no {kind.__name__}")
    return value


def _count(value: Any, least: int = 0, most: int = MAX_BYTES) -> int:
    if not least <= _checked(value, int) <= most:
        raise ValueError(f"a number is not between {least} and {most}")
    return int(value)


def _seconds(value: Any) -> float:
    if not (math.isfinite(_checked(value, float)) and value >= 0):
        raise ValueError(f"{value} is no time")
    return float(value)


def _name(value: Any) -> str:
    text: str = _checked(value, str)
    text.encode()  # what is no text raises UnicodeEncodeError, a ValueError
    return text


def _spec(item: Any) -> TensorSpec:
    item = _checked(item, dict)
    dtype = _checked(item.get("dtype"), str)
    if not _DTYPE.fullmatch(dtype):
        raise ValueError(f"{dtype[:100]!r} is no type of a tensor")
    shape = (_count(extent, -1, MAX_EXTENT) for extent in _checked(item.get("shape"), list))
    return TensorSpec(_name(item.get("name")), tuple(shape), np.dtype(dtype))


def _measure(item: Any) -> Measure:
    item = _checked(item, dict)
    name, missing = _name(item.get("name")), _name(item.get("missing"))
    if name not in PURPOSES:
        raise ValueError(f"{name[:100]!r} is no measure")
    return Measure(name, words(missing), _count(item.get("version")))
