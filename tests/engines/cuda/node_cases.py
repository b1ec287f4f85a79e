"""Seeded parts of accumulating nodes: int8 arrays, requantizations, epilogues with every part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeq.engines.cuda.program.nodes import Addition, Epilogue, Pair, Requantization, Value, Window
from tests.engines.cuda.harness import MakeMachine
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine

ADDITION = Addition(2**19, -(2**18), 2**19, 20, 3, -128, 120)


def int8s(random: np.random.Generator, *shape: int) -> npt.NDArray[np.int8]:
    return random.integers(-128, 128, shape).astype(np.int8)


def requantization(
    random: np.random.Generator, channels: int, taps: int, zero_point: int = 3
) -> Requantization:
    """Return one whose results spread over int8: the accumulators are sums of `taps` products."""
    spread = 5000 * taps**0.5
    bias = random.integers(-spread, spread, channels).astype(np.int32)
    scale = random.uniform(20 / spread, 80 / spread, channels).astype(np.float32)
    return Requantization(bias, scale, zero_point, -120, 127)


def far_reaching(
    random: np.random.Generator, epilogue: Epilogue, bias: int, scale: float
) -> Epilogue:
    """Return one whose sums or results may be too large for the shortcuts of the arithmetic."""
    own = epilogue.requantization
    wide = replace(
        own,
        bias=random.integers(-bias, bias, len(own.bias)).astype(np.int32),
        scale=np.full_like(own.scale, scale),
    )
    return replace(epilogue, requantization=wide)


FAR = {"sums": (9_000_000, 2e-5), "results": (2_000, 100.0), "both": (200_000_000, 1.0)}


def epilogue(
    random: np.random.Generator, channels: int, taps: int, *, other: int | None = None
) -> Epilogue:
    """Return a plain one, or with the residual addition of `other` and a table."""
    plain = Epilogue(requantization(random, channels, taps))
    if other is None:
        return plain
    table = int8s(random, 256)
    return Epilogue(plain.requantization, ADDITION, other, table, bool(table[0] & 1))


def values(*shapes: tuple[int, ...]) -> list[Value]:
    return [Value(f"v{index}", shape, "int8") for index, shape in enumerate(shapes)]


def window(
    size: Pair,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    before: Any = None,
    after: Any = None,
) -> Window:
    """Return a window with padding as SAME at stride 1, if nothing else is said."""
    reach = [(s - 1) * d for s, d in zip(size, dilation, strict=True)]
    left = before if before is not None else (reach[0] // 2, reach[1] // 2)
    right = after if after is not None else (reach[0] - left[0], reach[1] - left[1])
    return Window(size, stride, dilation, left, right)


def seen(extent: int, side: int, window: Window) -> int:
    """Return how many positions a window has along one side."""
    padded = extent + window.before[side] + window.after[side]
    reach = (window.size[side] - 1) * window.dilation[side]
    return (padded - reach - 1) // window.stride[side] + 1


@dataclass
class Fault:
    """Puts a fault into every kernel's source: `old` becomes `new`."""

    old: str
    new: str
    cuts: int = 0

    def __call__(self, source: str) -> str:
        self.cuts += source.count(self.old)
        return source.replace(self.old, self.new)


def assert_caught(
    check: Callable[[MakeMachine], object],
    old: str,
    new: str,
    machine: type[EmulatedMachine | InterpretedMachine] = EmulatedMachine,
) -> None:
    """Assert that a check fails with a machine whose kernels have the fault."""
    fault = Fault(old, new)
    with pytest.raises(AssertionError):
        check(partial(machine, edit=fault))
    assert fault.cuts, "nothing was changed"
