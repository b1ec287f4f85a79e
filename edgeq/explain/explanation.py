"""What is known of every tensor and layer of a build <-> `explain.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from edgeq.bundle import BUILD_AGAIN
from edgeq.errors import BundleError

Row = TypeVar("Row", bound="MethodRange | TensorExplanation | LayerExplanation | Advice")


@dataclass(frozen=True)
class MethodRange:
    """What one calibration method would choose for one tensor."""

    lo: float
    hi: float
    clipped_ratio: float
    divergence: float | None  # nats; None where it is infinite
    sqnr_db: float  # of the tensor alone at 8 bits in this range, from its histogram


@dataclass(frozen=True)
class TensorExplanation:
    """One activation: the shape of its distribution, its range, and what others would be worth."""

    name: str
    tags: tuple[str, ...]
    count: int  # values in the histogram
    min: float
    max: float
    lo: float  # the range in use, as the table has it
    hi: float
    method: str
    clipped_ratio: float
    int8_lo: float | None  # what the INT8 model's tensor holds; None where it stays float
    int8_hi: float | None
    shares_with: tuple[str, ...]  # whose scale kernels demand to be the same, the widest first
    methods: Mapping[str, MethodRange]


@dataclass(frozen=True)
class LayerExplanation:
    """One op of the INT8 model, measured against float on the same inputs.

    Noise is INT8's error energy; a share of it is one of the tensor's own noise, and `entered` is
    a share of the float tensor's energy. Values that the tensor's readers do not tell apart (what
    lies below a RELU) count as equal.
    """

    index: int  # in the INT8 model
    op: str
    tensor: str  # what it writes, by the float model's name
    sqnr_db: float
    entered_db: float | None  # how much better it would be with this op float; None: all is its own
    entered: float  # noise that this op adds; negative where it repairs some
    share: float  # of the noise at the model's outputs, what starts here; see `injected`
    shift: float  # share of the noise that is a shift of a channel's mean
    saturated_low: float  # share of the values that int8 cannot hold, at either end
    saturated_high: float
    saturated: float  # share of the noise that is their error
    rounding: float  # share of the noise that rounding to the nearest level explains
    channel_spread: float  # largest magnitude of the widest channel / of the median one
    weight_spread: float  # largest weight of a channel / its median one, of the worst channel


@dataclass(frozen=True)
class Advice:
    """One of the layers that cost most, in words."""

    index: int
    op: str
    tensor: str
    cause: str
    text: str


@dataclass(frozen=True)
class Explanation:
    """Everything that is known of a build's tensors and layers."""

    tensors: tuple[TensorExplanation, ...]  # in execution order
    layers: tuple[LayerExplanation, ...] = ()  # in execution order
    worst: tuple[Advice, ...] = ()  # the one that costs most first
    samples: int = 0  # inputs that the layers were measured on
    unmeasured: str = ""  # why there are no layers; "" where there are

    def as_dict(self) -> dict[str, Any]:
        """Return what `explain.json` holds."""
        return asdict(self)

    def to_json(self) -> bytes:
        """Return the content of `explain.json`."""
        return json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Explanation:
        """Read what `to_json` wrote; further keys are ignored.

        Raises:
            BundleError: not JSON, incomplete, or a value is of another type.
        """
        try:
            values = json.loads(content, parse_constant=_refuse_constant)
            return cls(
                tensors=tuple(_tensor(row) for row in values["tensors"]),
                layers=tuple(_row(LayerExplanation, row) for row in values["layers"]),
                worst=tuple(_row(Advice, row) for row in values["worst"]),
                samples=_checked("int", values["samples"]),
                unmeasured=_checked("str", values["unmeasured"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"explain.json is damaged: {error!r}", hint=BUILD_AGAIN) from error


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _tensor(row: Mapping[str, Any]) -> TensorExplanation:
    methods = {name: _row(MethodRange, each) for name, each in row["methods"].items()}
    return _row(TensorExplanation, {**row, "methods": methods})


def _row(kind: type[Row], row: Mapping[str, Any]) -> Row:
    return kind(**{f.name: _checked(str(f.type), row[f.name]) for f in fields(kind)})


def _checked(kind: str, value: Any) -> Any:
    """Return a value of the type that a field declares; JSON's lists become tuples."""
    if kind == "tuple[str, ...]":
        return tuple(_checked("str", each) for each in value)
    if kind.startswith("Mapping") or (value is None and kind.endswith("| None")):
        return value
    if kind.startswith("float") and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not {"str": str, "int": int}.get(kind):
        raise TypeError(f"{value!r} is no {kind}")
    return value
