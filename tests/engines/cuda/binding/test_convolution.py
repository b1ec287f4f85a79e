"""conv_direct, and what is offered for a convolution at all."""

from __future__ import annotations

import pytest

from tests.engines.cuda.convolutions import Case, check

CASES = {
    "3x3": Case(),
    "odd channels": Case(c=3, oc=5),
    "stride, uneven padding": Case(stride=(2, 2), before=(0, 0), after=(1, 1)),
    "dilation": Case(h=9, w=10, c=5, oc=7, dilation=(2, 3), before=(2, 3), after=(2, 3)),
    "pointwise, three images": Case(n=3, kernel=(1, 1), before=(0, 0), after=(0, 0), oc=9),
    "window beyond x": Case(h=2, w=3, c=4, oc=4, kernel=(5, 4), before=(2, 1), after=(2, 2)),
    "residual addition": Case(oc=6, adds=True),
    "table": Case(oc=6, looks_up=True),
    "residual addition and table": Case(oc=6, adds=True, looks_up=True),
    "table, then residual addition": Case(oc=6, adds=True, looks_up=True, looks_up_first=True),
}


@pytest.mark.parametrize("name", CASES)
def test_the_direct_kernel_takes_every_convolution(name: str) -> None:
    assert check(CASES[name], "sm_53", only="conv_direct") == ("conv_direct",)


@pytest.mark.parametrize("placement", ["slice_odd", "pitch16", "slice16"])
def test_the_direct_kernel_takes_every_placement(placement: str) -> None:
    case = Case(c=5, oc=11, adds=True)
    assert check(case, "sm_87", only="conv_direct", placement=placement) == ("conv_direct",)
