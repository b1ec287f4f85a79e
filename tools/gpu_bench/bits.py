"""Two engines and the same inputs -> how many bytes of their answers differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Array = np.ndarray


class Answers(Protocol):
    """An engine, or what stands for it."""

    def infer(self, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """Run once."""


@dataclass(frozen=True)
class Bits:
    """The comparison over all outputs of all inputs."""

    differing: int  # values that are not the same bits
    values: int
    largest: float  # difference of two values


def compare(engine: Answers, reference: Answers, inputs: Sequence[Mapping[str, Array]]) -> Bits:
    """Run both on each input."""
    differing, values, largest = 0, 0, 0.0
    for given in inputs:
        got, expected = engine.infer(given), reference.infer(given)
        for name, wanted in expected.items():
            same = _bits(got[name]) == _bits(wanted)
            differing += int(np.count_nonzero(~same))
            values += wanted.size
            distance = np.abs(got[name].astype(np.float64) - wanted.astype(np.float64))
            largest = max(largest, float(distance.max(initial=0.0)))
    return Bits(differing, values, largest)


def _bits(values: Array) -> Array:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
