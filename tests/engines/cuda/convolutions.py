"""Convolutions with seeded contents, for the tests of the kernels that carry them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.binding.convolution import every
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.program.nodes import (
    Addition,
    Convolution,
    Epilogue,
    Requantization,
    Value,
    Window,
)
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import DENSE, MakeMachine, Placement, check_node
from tests.engines.cuda.machines import EmulatedMachine

Array = npt.NDArray[Any]
ADDITION = Addition(
    a_factor=700_000,
    b_factor=-400_000,
    bias=(1 << 19) + 5_000_000,
    shift=20,
    zero_point=-7,
    low=-120,
    high=110,
)


@dataclass(frozen=True)
class Case:
    """A convolution: x [n, h, w, c], a window of k by k (or kernel), oc channels of y."""

    n: int = 1
    h: int = 6
    w: int = 7
    c: int = 16
    oc: int = 16
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (1, 1)
    after: tuple[int, int] = (1, 1)
    adds: bool = False
    looks_up: bool = False
    looks_up_first: bool = False  # before the addition
    has_ties: bool = False  # scales are powers of two: results lie half way between integers
    is_extreme: bool = False  # sums as large as they can be, biases that take them back
    seed: int = 0

    @property
    def result(self) -> tuple[int, int]:
        """Return the height and width of y."""
        h, w = (
            (size + b + a - (k - 1) * d - 1) // s + 1
            for size, b, a, k, d, s in zip(
                (self.h, self.w),
                self.before,
                self.after,
                self.kernel,
                self.dilation,
                self.stride,
                strict=True,
            )
        )
        return h, w


@dataclass(frozen=True, eq=False)
class Made:
    """A node with the values it reads and writes: 0 is x, 1 is y, 2 the residual value."""

    node: Convolution
    values: Sequence[Value]
    arrays: Mapping[int, Array]


def make(case: Case) -> Made:
    """Fill a case with numbers that use the whole range of int8."""
    random = np.random.default_rng([case.seed, case.c, case.oc, case.h])
    oh, ow = case.result
    y = (case.n, oh, ow, case.oc)
    window = Window(case.kernel, case.stride, case.dilation, case.before, case.after)
    weights = _bytes(random, case.oc, *case.kernel, case.c)
    zero_point = int(random.integers(-128, 128))
    x = (case.n, case.h, case.w, case.c)
    arrays = {0: _bytes(random, *x), 2: _bytes(random, *y)}
    if case.is_extreme:
        weights[:] = random.choice(np.array([-128, -127, -125], np.int8), weights.shape)
        arrays[0][:] = -127
        arrays[0][..., -1] = random.integers(-3, 4, x[:-1])
    epilogue = Epilogue(
        requantization(random, case, weights, zero_point),
        ADDITION if case.adds else None,
        2 if case.adds else None,
        random.permutation(np.arange(-128, 128)).astype(np.int8) if case.looks_up else None,
        case.looks_up_first,
    )
    values = (Value("x", x, "int8"), Value("y", y, "int8"), Value("other", y, "int8"))
    return Made(Convolution(0, 1, weights, window, zero_point, epilogue), values, arrays)


def requantization(
    random: np.random.Generator, case: Case, weights: Array, zero_point: int
) -> Requantization:
    """Return bias and scales with which results use the range and sometimes leave it."""
    channels = weights.shape[0]
    flat = weights.reshape(channels, -1).astype(np.int64)
    own, high = int(random.integers(-100, 100)), int(random.integers(90, 128))
    bias = random.integers(-3000, 3000, channels) - zero_point * flat.sum(1)
    scale = 60 / (5000 * np.sqrt(flat.shape[1])) * 2 ** random.uniform(-2, 1, channels)
    if case.has_ties:
        scale = 2 ** np.floor(np.log2(scale))
    if case.is_extreme:
        bias = random.integers(-20, 20, channels) + 127 * flat[:, :-1].sum(1)
        scale = np.full(channels, 0.3)
    return Requantization(bias.astype(np.int32), scale.astype(np.float32), own, -128, high)


def check(
    case: Case,
    target: str,
    *,
    only: str = "",
    placement: Placement | str = DENSE,
    placements: Mapping[int, Placement] | None = None,
    machine: MakeMachine = EmulatedMachine,
    seeds: Sequence[int] = (0, 1),
) -> tuple[str, ...]:
    """Hold the choices whose names contain `only` to the reference; return their names."""
    made = make(case)
    return check_node(
        every_choice,
        made.node,
        made.values,
        made.arrays,
        Target.parse(target),
        placement=placement,
        placements=placements,
        machine=machine,
        seeds=seeds,
        only=only,
    )


def every_choice(node: Convolution, site: Site) -> tuple[Choice, ...]:
    """Return what is offered, and what the estimate holds back."""
    return tuple(every(Problem.of(node, site)))


def _bytes(random: np.random.Generator, *shape: int) -> Array:
    return random.integers(-128, 128, shape).astype(np.int8)
