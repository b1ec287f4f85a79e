"""Matrix products: every choice against the reference, on a CPU in the place of the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.matrix_product import choices
from edgeq.engines.cuda.program.nodes import MatrixProduct, Requantization, RoundedTwice
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, MakeMachine, check_node
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.node_cases import assert_caught, int8s, values

ORIN = Target(87)
Shape = tuple[int, ...]


def check(
    a: Shape,
    b: Shape,
    *,
    transposed: tuple[bool, bool] = (False, False),
    zero_points: tuple[int, int] = (-7, 4),
    placement: str = "dense",
    only: str = "",
    machine: MakeMachine = EmulatedMachine,
) -> tuple[str, ...]:
    """Check a [..., M, K] times b [..., K, N], each stored the other way round if transposed."""
    random = np.random.default_rng(6)
    scale = np.float32(0.7 / (5000 * a[-1] ** 0.5) * 127)
    one = np.zeros(1, np.int32)
    requantization = Requantization(one, np.full(1, scale, np.float32), 3, -120, 127)
    node = MatrixProduct(0, 1, 2, *transposed, *zero_points, requantization)
    y = (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
    stored = [swapped(s) if t else s for s, t in zip((a, b), transposed, strict=True)]
    arrays = {index: int8s(random, *shape) for index, shape in enumerate(stored)}
    shapes = values(*stored, y)
    return check_node(
        choices, node, shapes, arrays, ORIN, placement=placement, only=only, machine=machine
    )


def swapped(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_every_tile_agrees_with_the_reference(transposed: tuple[bool, bool]):
    assert len(check((2, 19, 37), (2, 37, 21), transposed=transposed)) == 6


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 9), (2, 11), (1, 31)])
def test_a_scale_in_integers_rounds_twice(left: int, right: int):
    random, one = np.random.default_rng(8), np.zeros(1, np.int32)
    requantization = Requantization(one, np.ones(1, np.float32), 3, -120, 127)
    fixed = RoundedTwice(2**30 + 12_345, left, right)
    node = MatrixProduct(0, 1, 2, False, False, -7, 4, requantization, fixed)
    arrays = {0: int8s(random, 33, 40), 1: int8s(random, 40, 50)}
    check_node(choices, node, values((33, 40), (40, 50), (33, 50)), arrays, ORIN)


@pytest.mark.parametrize("zero_points", [(0, 0), (0, -128), (127, 0), (-128, 127)])
def test_zero_points_are_taken_off_both(zero_points: tuple[int, int]):
    check((5, 64), (64, 6), zero_points=zero_points, only="16x16")


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 1, 4, 8), (2, 8, 5)), ((4, 8), (2, 8, 5)), ((2, 1, 3, 4, 8), (1, 2, 1, 8, 5))],
)
def test_outer_dimensions_broadcast(a: Shape, b: Shape):
    check(a, b, only="16x16")
    check(a, b, only="direct")


@pytest.mark.parametrize("transposed", [(False, True), (True, False)])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_values_may_lie_in_others(placement: str, transposed: tuple[bool, bool]):
    check((2, 5, 12), (2, 12, 8), placement=placement, transposed=transposed, only="16x16")


def test_wide_results_take_wide_tiles():
    assert check((1, 64), (64, 70), only="16x64")


@pytest.mark.parametrize("only", ["16x16", "direct"])
def test_ptx_does_the_same(only: str):
    check((5, 40), (40, 6), only=only, machine=InterpretedMachine)


FAULTS = {
    "no barrier before a step is read": (
        "    __syncthreads();\n    product_add",
        "    product_add",
    ),
    "no barrier before the next one": ("row, column);\n    __syncthreads();", "row, column);"),
    "the other's zero point": ("EQ_B_ZERO_POINT * sums.a[i]", "EQ_A_ZERO_POINT * sums.a[i]"),
    "a k too many": ("if (k + i < K)", "if (k + i <= K)"),
    "a row too many": ("m >= EQ_M", "m > EQ_M"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check((21, 70), (70, 9), only="16x16", machine=machine)

    assert_caught(faulty, *FAULTS[fault])


def test_the_ptx_rounds_twice_as_the_reference_does():
    one = np.zeros(1, np.int32)
    requantization = Requantization(one, np.ones(1, np.float32), 3, -120, 127)
    fixed = RoundedTwice(2**30 + 12_345, 0, 9)
    node = MatrixProduct(0, 1, 2, False, False, -7, 4, requantization, fixed)
    random = np.random.default_rng(8)
    arrays = {0: int8s(random, 9, 12), 1: int8s(random, 12, 10)}
    shapes = values((9, 12), (12, 10), (9, 10))
    check_node(choices, node, shapes, arrays, ORIN, only="16x16", machine=InterpretedMachine)
