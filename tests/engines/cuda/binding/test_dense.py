"""Fully-connected kernels: every choice against the reference, on a CPU in the place of the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.dense import choices
from edgeq.engines.cuda.program.nodes import Dense
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.harness import (
    PITCH_16,
    PLACEMENTS,
    MakeMachine,
    Placement,
    TestSite,
    check_node,
)
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.node_cases import assert_caught, epilogue, int8s, values

ORIN = Target(87)


def dense(outputs: int, features: int, *, other: bool = False) -> Dense:
    random = np.random.default_rng(outputs)
    ending = epilogue(random, outputs, features, other=2 if other else None)
    return Dense(0, 1, int8s(random, outputs, features), 7, ending)


def check(
    x: tuple[int, ...],
    outputs: int,
    y: tuple[int, ...] = (),
    *,
    other: bool = False,
    placement: Placement | str = "dense",
    target: Target = ORIN,
    only: str = "",
    machine: MakeMachine = EmulatedMachine,
) -> tuple[str, ...]:
    rows = x[0]
    node = dense(outputs, int(np.prod(x)) // rows, other=other)
    y = y or (rows, outputs)
    random = np.random.default_rng(3)
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


@pytest.mark.parametrize("features", [5, 700])
def test_every_split_of_k_agrees_with_the_reference(features: int):
    names = check((1, features), 10)
    assert len(names) == 10


@pytest.mark.parametrize("rows", [2, 5, 9])
def test_rows_share_the_weights_that_a_thread_loads(rows: int):
    check((rows, 40), 7, other=True, only="dense_gemv 8x2")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_rows_may_lie_in_others(placement: str):
    check((3, 40), 6, placement=placement, other=True, only="dense_gemv 32x4")


def test_features_may_span_pixels():
    check((2, 3, 3, 20), 6, only="dense_gemv 32")


def test_pixels_may_be_rows():
    node = dense(6, 20)
    shapes = values((1, 3, 5, 20), (15, 6))
    x = int8s(np.random.default_rng(2), 1, 3, 5, 20)
    names = check_node(
        choices, node, shapes, {0: x}, ORIN, placements={0: PITCH_16}, only="32x1", seeds=(1,)
    )
    assert {name.split()[0] for name in names} == {"conv_mma", "dense_gemv"}


def test_features_across_padding_are_refused():
    site = TestSite(ORIN, values((1, 3, 3, 20), (1, 6)), {0: PITCH_16}, (0, 1))
    with pytest.raises(EngineError, match="dense"):
        choices(dense(6, 180), site)


def test_many_rows_may_go_as_a_convolution():
    site = TestSite(ORIN, values((64, 64), (64, 64)), {}, (0, 1))
    names = [choice.name for choice in choices(dense(64, 64), site)]
    assert any(name.startswith("conv") for name in names)


def test_few_outputs_are_shared_by_more_threads():
    def best(outputs: int) -> str:
        site = TestSite(ORIN, values((1, 4096), (1, outputs)), {}, (0, 1))
        return choices(dense(outputs, 4096), site)[0].name

    assert best(4) == "dense_gemv 128x1"
    assert best(4096) != best(4)


@pytest.mark.parametrize("only", ["dense_gemv 8x2", "dense_gemv 128x1", "dense_direct"])
def test_ptx_does_the_same(only: str):
    check((2, 70), 5, only=only, machine=InterpretedMachine)


FAULTS = {
    "no barrier": ("  __syncthreads();\n  if (part < 32)", "  if (part < 32)"),
    "half of the lanes": ("mask = EQ_LANES / 2", "mask = EQ_LANES / 4"),
    "a warp left out": ("w < EQ_WARPS", "w < EQ_WARPS - 1"),
    "an output too many": ("c < EQ_O", "c <= EQ_O"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check((1, 2040), 5, only="dense_gemv 128x2", machine=machine)

    assert_caught(faulty, *FAULTS[fault])
