"""Transposed convolutions: every choice against the reference, on a CPU in the place of the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.transposed import choices
from edgeq.engines.cuda.nodes import Pair, TransposedConvolution, Window
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, check_node
from tests.engines.cuda.node_cases import epilogue, int8s, values

ORIN = Target(87)


def check(
    x: tuple[int, int, int, int],
    outputs: int,
    size: Pair,
    stride: Pair,
    *,
    before: Pair = (0, 0),
    after: Pair = (0, 0),
    zero_point: int = -9,
    other: bool = False,
    placement: str = "dense",
    target: Target = ORIN,
    only: str = "",
) -> tuple[str, ...]:
    random = np.random.default_rng(4)
    y = [(x[s + 1] - 1) * stride[s] + size[s] - before[s] - after[s] for s in (0, 1)]
    shape = (x[0], y[0], y[1], outputs)
    taps = -(-size[0] // stride[0]) * -(-size[1] // stride[1]) * x[3]
    ending = epilogue(random, outputs, taps, other=2 if other else None)
    weights = int8s(random, outputs, *size, x[3])
    slides = Window(size, stride, (1, 1), before, after)
    node = TransposedConvolution(0, 1, weights, slides, zero_point, ending)
    arrays = {0: int8s(random, *x), 2: int8s(random, *shape)}
    shapes = values(x, shape, shape)
    return check_node(choices, node, shapes, arrays, target, placement=placement, only=only)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_choice_agrees_with_the_reference(size: int, stride: int):
    check((1, 4, 5, 8), 4, (size, size), (stride, stride))


@pytest.mark.parametrize("before", [(0, 0), (1, 0), (1, 2)])
def test_what_is_cut_off_is_not_stored(before: Pair):
    check((1, 4, 3, 8), 4, (4, 5), (2, 3), before=before, after=(1, 1))


@pytest.mark.parametrize("padding", [(-1, -2)])
def test_room_beyond_what_is_scattered_holds_the_bias(padding: Pair):
    check((1, 3, 3, 4), 4, (2, 2), (2, 2), after=padding)


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_what_lies_outside_counts_nothing(zero_point: int):
    check((2, 3, 4, 4), 4, (3, 3), (2, 2), zero_point=zero_point)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_values_may_lie_in_others(placement: str):
    check((2, 3, 4, 6), 5, (3, 3), (2, 2), placement=placement, other=True)
