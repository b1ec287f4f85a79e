"""Depthwise kernels: every choice against the reference, on CPUs that stand in for the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.depthwise import choices
from edgeq.engines.cuda.program.nodes import Depthwise, Pair
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, MakeMachine, Placement, TestSite, check_node
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

ORIN, NANO = Target(87), Target(53)


def check(
    x: tuple[int, int, int, int],
    size: Pair,
    *,
    target: Target = ORIN,
    stride: Pair = (1, 1),
    dilation: Pair = (1, 1),
    before: Pair | None = None,
    after: Pair | None = None,
    multiplier: int = 1,
    zero_point: int = -5,
    other: bool = False,
    placement: Placement | str = "dense",
    only: str = "",
    far: str = "",
    machine: MakeMachine = EmulatedMachine,
) -> tuple[str, ...]:
    random = np.random.default_rng(5)
    slides = window(size, stride, dilation, before, after)
    channels = x[3] * multiplier
    y = (x[0], seen(x[1], 0, slides), seen(x[2], 1, slides), channels)
    ending = epilogue(random, channels, size[0] * size[1], other=2 if other else None)
    if far:
        ending = far_reaching(random, ending, *FAR[far])
    node = Depthwise(0, 1, int8s(random, *size, channels), slides, zero_point, ending)
    arrays = {0: int8s(random, *x), 2: int8s(random, *y)}
    return check_node(
        choices,
        node,
        values(x, y, y),
        arrays,
        target,
        placement=placement,
        only=only,
        machine=machine,
    )


@pytest.mark.parametrize("target", [ORIN, NANO], ids=["dp4a", "float32"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_every_tile_agrees_with_the_reference(size: int, stride: int, target: Target):
    names = check((1, 9, 11, 8), (size, size), stride=(stride, stride), target=target)
    assert len(names) >= 4
    assert names[-1] == "depthwise_direct"


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("channels", [6, 16])
def test_values_may_lie_in_others(channels: int, placement: str):
    check((2, 5, 6, channels), (3, 3), placement=placement, other=True, only="1x4")


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_padding_holds_the_extreme_zero_points(zero_point: int):
    check((1, 4, 5, 4), (3, 3), before=(2, 2), after=(2, 2), zero_point=zero_point, only="2x2")


@pytest.mark.parametrize("target", [ORIN, NANO], ids=["dp4a", "float32"])
@pytest.mark.parametrize("far", FAR)
def test_large_sums_and_results_take_no_shortcut(far: str, target: Target):
    check((1, 4, 5, 8), (3, 3), far=far, target=target, only="1x2")


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 4), (4, 6), (3, 8)])
def test_kernels_of_any_size_fit_tiles(size: Pair):
    check((1, 7, 13, 4), size, only="1x4")


@pytest.mark.parametrize("target", [ORIN, NANO], ids=["dp4a", "float32"])
def test_a_dilated_tile_holds_outputs_a_dilation_apart(target: Target):
    names = check((1, 11, 13, 4), (3, 3), dilation=(2, 3), target=target, only="2x2")
    assert names == ("depthwise_tiled 2x2",)


def test_uneven_padding_and_strides():
    check((1, 10, 9, 4), (3, 5), stride=(2, 3), before=(0, 1), after=(1, 3), only="2x")


def test_without_padding_nothing_is_asked_about_places():
    check((1, 10, 10, 4), (3, 3), before=(0, 0), after=(0, 0), only="2x4")


def test_a_multiplier_takes_the_direct_kernel():
    assert check((2, 5, 4, 3), (3, 3), multiplier=4, placement="slice_odd", other=True) == (
        "depthwise_direct",
    )


def test_dilation_with_strides_takes_the_direct_kernel():
    names = check((1, 9, 9, 4), (3, 3), stride=(2, 2), dilation=(2, 2))
    assert names == ("depthwise_direct",)


def test_larger_tiles_are_offered_first_for_larger_images():
    def best(side: int) -> str:
        random = np.random.default_rng(5)
        slides = window((3, 3))
        node = Depthwise(0, 1, int8s(random, 3, 3, 64), slides, 0, epilogue(random, 64, 9))
        site = TestSite(ORIN, values((1, side, side, 64), (1, side, side, 64)), {}, (0, 1))
        return choices(node, site)[0].name

    assert best(112) == "depthwise_tiled 2x4"
    assert best(4) != best(112)


@pytest.mark.parametrize("only", ["2x2", "depthwise_direct"])
@pytest.mark.parametrize("target", [ORIN, NANO], ids=["dp4a", "float32"])
def test_ptx_does_the_same(target: Target, only: str):
    check((1, 5, 6, 4), (3, 3), target=target, only=only, machine=InterpretedMachine)


FAULTS = {
    "bytes exchanged": ("0x5140", "0x5041"),
    "taps shifted too little": ("<< (8 * shift)", "<< (4 * shift)"),
    "zero where x's zero point belongs": ("(u32)eq_splat4(EQ_ZERO_POINT)", "0u"),
    "a column too many": ("w < EQ_Y_W", "w <= EQ_Y_W"),
    "a row of taps left out": ("i >= EQ_KH", "i >= EQ_KH - 1"),
    "a group of columns one off": ("columns[g * EQ_GROUP_STEP + 1]", "columns[g * EQ_GROUP_STEP]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check((1, 5, 6, 4), (3, 3), only="depthwise_tiled 1x4", machine=machine)

    assert_caught(faulty, *FAULTS[fault])
