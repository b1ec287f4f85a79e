"""One inference as a client asked for it, whichever protocol it came by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgeq.errors import InvalidRequestError
from edgeq.serve.tensors import datatype_of, quoted
from edgeq.tflite.runtime import Array, TensorSpec


@dataclass(frozen=True)
class RegionSlice:
    """A place in a registered shared memory region, in bytes from the region's start."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the client names.

    `classes` > 0 asks for that many best classes; `place` for the bytes to be put there.
    """

    name: str
    is_binary: bool
    classes: int = 0
    place: RegionSlice | None = None


class InferRequest(NamedTuple):
    """What a client wants run; no `outputs` means all of them."""

    id: str
    inputs: dict[str, Array]
    outputs: tuple[RequestedOutput, ...] = ()
    is_binary: bool = False
    timeout_s: float | None = None
    priority: int = 0  # 1 is the most urgent; 0 has no wish of its own


class Typed(Protocol):
    """An array, or what a request says of one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its extents."""


def check_inputs(arrays: Mapping[str, Typed], specs: Sequence[TensorSpec]) -> None:
    """Hold the inputs of a request against what the model takes; nothing where `specs` is empty.

    Raises:
        InvalidRequestError: one is unknown, missing, or of another type or shape.
    """
    if not specs:
        return
    if len(arrays) != len(specs) or any(spec.name not in arrays for spec in specs):
        raise _wrong_names(arrays, [spec.name for spec in specs])
    for spec in specs:
        _check_input(arrays[spec.name], spec)


def _wrong_names(arrays: Mapping[str, Typed], names: Sequence[str]) -> InvalidRequestError:
    taken = f"the model takes {quoted(names)}"
    if unknown := set(arrays).difference(names):
        return InvalidRequestError(f"input {quoted(min(unknown))} is unknown; {taken}")
    missing = next(name for name in names if name not in arrays)
    return InvalidRequestError(f"input {missing!r} is missing; {taken}")


def _check_input(array: Typed, spec: TensorSpec) -> None:
    if array.dtype != spec.dtype:
        raise InvalidRequestError(
            f"input {spec.name!r} has datatype {datatype_of(array.dtype)}; "
            f"the model takes {datatype_of(spec.dtype)}"
        )
    if not spec.accepts(array.shape):
        raise InvalidRequestError(
            f"input {spec.name!r} has shape {list(array.shape)}; the model takes {list(spec.shape)}"
        )


def check_outputs(requested: Sequence[RequestedOutput], specs: Sequence[TensorSpec]) -> None:
    """Hold the requested outputs against what the model gives; nothing where `specs` is empty.

    Raises:
        InvalidRequestError: one is unknown.
    """
    names = [spec.name for spec in specs]
    for output in requested:
        if names and output.name not in names:
            raise InvalidRequestError(
                f"output {quoted(output.name)} is unknown; the model gives {quoted(names)}"
            )
