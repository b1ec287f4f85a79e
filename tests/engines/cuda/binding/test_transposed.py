"""Transposed convolutions: every choice against the reference, on a CPU in the place of the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.transposed import choices
from edgeq.engines.cuda.program.nodes import Pair, TransposedConvolution, Window
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import MakeMachine, check_node
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.node_cases import assert_caught, epilogue, int8s, values

ORIN = Target(87)
KERNELS = ["transposed_conv", "transposed conv_direct", "transposed conv_mma 32x32x"]


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
    machine: MakeMachine = EmulatedMachine,
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
    return check_node(
        choices, node, shapes, arrays, target, placement=placement, only=only, machine=machine
    )


@pytest.mark.parametrize("only", KERNELS)
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 1), (3, 2), (4, 2), (2, 3)])
def test_every_kernel_agrees_with_the_reference(size: int, stride: int, only: str):
    assert check((1, 4, 5, 8), 4, (size, size), (stride, stride), only=only)


@pytest.mark.parametrize(
    ("target", "only"),
    [(53, "conv_fp32 32x32"), (61, "conv_dp4a 32x32"), (72, "conv_wmma 32x32"), (75, "8816 32x32")],
)
def test_it_is_a_convolution_on_every_target(target: int, only: str):
    assert check((2, 4, 5, 8), 12, (3, 3), (2, 2), before=(0, 1), target=Target(target), only=only)


@pytest.mark.parametrize("only", KERNELS)
@pytest.mark.parametrize("before", [(1, 0), (3, 4)])
def test_what_is_cut_off_is_not_stored(before: Pair, only: str):
    check((1, 4, 3, 8), 4, (4, 5), (2, 3), before=before, after=(1, 1), only=only)


@pytest.mark.parametrize("only", KERNELS)
def test_room_beyond_what_is_scattered_holds_the_bias(only: str):
    check((1, 3, 3, 4), 4, (2, 2), (2, 2), after=(-1, -2), only=only)


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_what_lies_outside_counts_nothing(zero_point: int):
    check((2, 3, 4, 4), 4, (3, 3), (2, 2), zero_point=zero_point, only=KERNELS[2])
    check((2, 3, 4, 4), 4, (3, 3), (2, 2), zero_point=zero_point, only="transposed_conv")


@pytest.mark.parametrize("only", KERNELS[1:])
@pytest.mark.parametrize("placement", ["pitch16", "slice4", "slice_odd"])
def test_values_may_lie_in_others(placement: str, only: str):
    check((2, 3, 4, 6), 5, (3, 3), (2, 2), placement=placement, other=True, only=only)


@pytest.mark.parametrize("only", KERNELS)
def test_ptx_does_the_same(only: str):
    check((1, 3, 3, 8), 4, (3, 3), (2, 2), only=only, machine=InterpretedMachine)


FAULTS = {
    "phases exchanged": ("phase / EQ_PHASES_W", "phase % EQ_PHASES_W"),
    "cropped a row too little": ("+ EQ_OFFSET_H", ""),
    "a row too many": ("(u32)h < EQ_STORED_H", "(u32)h <= EQ_STORED_H"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check(
            (1, 3, 3, 8), 4, (3, 3), (2, 2), before=(1, 1), only=KERNELS[1], machine=machine
        )

    assert_caught(faulty, *FAULTS[fault])
