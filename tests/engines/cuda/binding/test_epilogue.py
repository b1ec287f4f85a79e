"""An Epilogue's macros: what is stored at once, and a residual addition with one operation less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.engines.cuda.binding.epilogue import Ending
from edgeq.engines.cuda.program.nodes import Addition
from edgeq.engines.cuda.program.reference import add
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.convolutions import ADDITION, Case, make
from tests.engines.cuda.harness import DENSE, PITCH_4, PITCH_16, SLICE_ODD, Placement, TestSite


def ending(case: Case, y: Placement, other: Placement, addition: Addition = ADDITION) -> Ending:
    made = make(case)
    site = TestSite(Target(87), made.values, {1: y, 2: other}, (1, 2))
    epilogue = made.node.epilogue
    if epilogue.addition is not None:
        epilogue = replace(epilogue, addition=addition)
    return Ending.of(site, epilogue, 1)


@pytest.mark.parametrize(
    ("channels", "y", "other", "vector"),
    [
        (32, DENSE, DENSE, 16),
        (24, DENSE, DENSE, 8),
        (24, PITCH_16, PITCH_16, 16),
        (24, PITCH_16, PITCH_4, 8),
        (9, PITCH_4, PITCH_4, 4),
        (6, DENSE, DENSE, 2),
        (16, SLICE_ODD, PITCH_16, 1),
    ],
)
def test_as_many_channels_are_stored_at_once_as_both_views_allow(
    channels: int, y: Placement, other: Placement, vector: int
) -> None:
    assert ending(Case(oc=channels, adds=True), y, other).vector == vector


def test_the_sums_zero_point_goes_into_its_bias() -> None:
    constants = ending(Case(adds=True), DENSE, DENSE).constants()
    assert constants["ADD_ZERO_POINT"] == 0
    bias = constants["ADD_BIAS"]
    assert isinstance(bias, int)
    bytes_ = np.arange(-128, 128).astype(np.int8)
    a, b = (axis.ravel() for axis in np.meshgrid(bytes_, bytes_))
    folded = replace(ADDITION, bias=bias, zero_point=0)
    assert (add(a, b, folded) == add(a, b, ADDITION)).all()


def test_a_zero_point_that_would_overflow_the_bias_stays_apart() -> None:
    steep = Addition(2**22, 2**22, 2**29, 23, 127, -128, 127)
    constants = ending(Case(adds=True), DENSE, DENSE, steep).constants()
    assert constants["ADD_ZERO_POINT"] == 127
    assert constants["ADD_BIAS"] == 2**29
