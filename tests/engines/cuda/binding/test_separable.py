"""A depthwise and a 1 x 1 convolution in one kernel, on a CPU in the place of the GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.engines.cuda.binding.separable import candidates as separable_candidates
from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.binding.table import choices
from edgeq.engines.cuda.program.nodes import Chain, Convolution, Depthwise, Pair, Window
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, MakeMachine, TestSite, check_node
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.node_cases import (
    FAR,
    assert_caught,
    epilogue,
    far_reaching,
    int8s,
    seen,
    values,
    window,
)

ORIN = Target(87)
POINT = Window((1, 1), (1, 1))
SMALL = "separable_mma 32x32 w16x16 strip2"


def separable(
    x: tuple[int, int, int, int],
    outputs: int,
    size: Pair = (3, 3),
    *,
    stride: Pair = (1, 1),
    zero_point: int = -6,
    other: bool = False,
    table: bool = False,
    far: str = "",
) -> tuple[Chain, tuple[int, ...], tuple[int, ...]]:
    """Return the chain, the shape between and that of y; x is value 0, y 2, other 3."""
    random = np.random.default_rng(8)
    slides = window(size, stride)
    channels = x[3]
    middle = (x[0], seen(x[1], 0, slides), seen(x[2], 1, slides), channels)
    first = epilogue(random, channels, size[0] * size[1])
    if far:
        first = far_reaching(random, first, *FAR[far])
    if table:
        first = replace(first, table=int8s(random, 256))
    depthwise = Depthwise(0, 1, int8s(random, *size, channels), slides, zero_point, first)
    second = epilogue(random, outputs, channels, other=3 if other else None)
    weights = int8s(random, outputs, 1, 1, channels)
    pointwise = Convolution(1, 2, weights, POINT, 3, second)
    return Chain((depthwise, pointwise)), middle, (*middle[:3], outputs)


def every_block(node: Chain, site: Site) -> tuple[Choice, ...]:
    depthwise, pointwise = node.parts
    assert isinstance(depthwise, Depthwise)
    assert isinstance(pointwise, Convolution)
    return tuple(separable_candidates(depthwise, pointwise, site))


def check(
    x: tuple[int, int, int, int],
    outputs: int,
    size: Pair = (3, 3),
    *,
    stride: Pair = (1, 1),
    zero_point: int = -6,
    other: bool = False,
    table: bool = False,
    far: str = "",
    placement: str = "dense",
    only: str = "separable_mma 32x64",
    machine: MakeMachine = EmulatedMachine,
) -> tuple[str, ...]:
    node, middle, y = separable(
        x, outputs, size, stride=stride, zero_point=zero_point, other=other, table=table, far=far
    )
    random = np.random.default_rng(9)
    arrays = {0: int8s(random, *x), 3: int8s(random, *y)}
    shapes = values(x, middle, y, y)
    binder = every_block if "separable" in only else choices
    names = check_node(
        binder, node, shapes, arrays, ORIN, placement=placement, only=only, machine=machine
    )
    assert names
    return names


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_blocks_agree_with_the_parts(size: int, stride: int):
    check((1, 9, 7, 24), 40, (size, size), stride=(stride, stride))


def test_k_runs_in_steps():
    check((1, 5, 7, 200), 40, only="separable_mma 32x32 w16x16 strip4")


def test_results_go_on_as_the_pointwise_part_s_own_would():
    check((2, 5, 6, 24), 20, other=True, table=True, only=SMALL)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_values_may_lie_in_others(placement: str):
    check(
        (2, 4, 5, 22), 12, placement=placement, other=True, only="separable_mma 32x32 w16x16 strip4"
    )


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_padding_holds_the_extreme_zero_points(zero_point: int):
    check((1, 4, 4, 8), 8, zero_point=zero_point, only=SMALL)


@pytest.mark.parametrize("far", FAR)
def test_large_sums_and_results_between_take_no_shortcut(far: str):
    check((1, 4, 4, 8), 8, far=far, only=SMALL)


def test_the_parts_may_run_one_after_the_other():
    names = check((1, 6, 6, 8), 8, only="depthwise_tiled")
    assert all(" + conv" in name for name in names)


def test_a_target_without_tensor_cores_runs_them_so():
    node, middle, y = separable((1, 6, 6, 8), 8)
    site = TestSite(Target(53), values((1, 6, 6, 8), middle, y), {}, (0, 1, 2))
    assert all(" + " in choice.name for choice in choices(node, site))


def test_ptx_does_the_same():
    check((1, 4, 5, 70), 12, only=SMALL, machine=InterpretedMachine)


FAULTS = {
    "no wait for the weights": ("eq_cp_wait<EQ_STAGES - 2>();", ""),
    "no barrier before rows are read": (
        "eq_cp_wait<EQ_STAGES - 2>();\n    __syncthreads();",
        "eq_cp_wait<EQ_STAGES - 2>();",
    ),
    "a strip of the next row": ("index / EQ_STRIPS", "(index + 1) / EQ_STRIPS"),
    "channels exchanged": ("c % EQ_BK / 16)", "c % EQ_BK / 16 ^ 1)"),
    "the other part's zero point": ("(four) + 128", "(four) + 127"),
    "a strip's last pixel stored": ("return w < EQ_Y_W;", "return true;"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check((1, 4, 5, 60), 12, table=True, only=SMALL, machine=machine)

    assert_caught(faulty, *FAULTS[fault])


def test_results_that_overwrite_rows_still_read_are_a_race():
    def faulty(machine: MakeMachine) -> object:
        return check((1, 4, 5, 60), 12, only=SMALL, machine=machine)

    end = "eq_cp_wait<0>();\n{}  eq_store_tile"
    barrier = "  __syncthreads();\n"
    assert_caught(faulty, end.format(barrier), end.format(""), InterpretedMachine)
