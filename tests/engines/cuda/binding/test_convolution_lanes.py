"""conv_dp4a, conv_int16 and conv_fp32: shapes, tiles, ways to read x; the PTX itself."""

from __future__ import annotations

import pytest

from tests.engines.cuda.convolutions import Case, check
from tests.engines.cuda.machines import InterpretedMachine

TARGETS = {"conv_dp4a": "sm_61", "conv_int16": "sm_62", "conv_fp32": "sm_53"}
TILES = {"conv_dp4a": "64x32x32 t4x4", "conv_int16": "64x32x16 t4x4", "conv_fp32": "64x32x16 t4x4"}
SHAPES = {
    "3x3, two images": Case(h=7, w=6, c=20, oc=24, n=2),
    "1x1 with a stride": Case(
        h=9, w=7, c=36, oc=24, kernel=(1, 1), stride=(2, 2), before=(0, 0), after=(0, 0)
    ),
    "strides, dilations, uneven padding": Case(
        h=15, w=12, c=8, oc=20, stride=(2, 1), dilation=(2, 3), before=(1, 2), after=(3, 1)
    ),
    "7x7 by 2 over 3 channels": Case(
        h=13, w=14, c=3, oc=24, kernel=(7, 7), stride=(2, 2), before=(2, 2), after=(3, 3)
    ),
    "residual addition and table": Case(oc=30, adds=True, looks_up=True),
    "sums beyond 2^24": Case(
        h=1, w=33, c=2200, oc=32, kernel=(1, 1), before=(0, 0), after=(0, 0), is_extreme=True
    ),
}


@pytest.mark.parametrize("template", TARGETS)
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_exact(name: str, template: str) -> None:
    only = f"{template} {TILES[template]} k1"
    target = TARGETS[template]
    assert check(SHAPES[name], target, only=only, placement="pitch4", seeds=(1,)) == (only,)


@pytest.mark.parametrize("template", TARGETS)
def test_every_tile_is_exact(template: str) -> None:
    case = Case(h=5, w=5, c=12, oc=20, adds=True, kernel=(1, 3), before=(0, 1), after=(0, 1))
    names = check(case, TARGETS[template], only=template, placement="slice4", seeds=(1,))
    assert {name.rpartition(" ")[2] for name in names} == {"k1", "k2"}


@pytest.mark.parametrize("template", TARGETS)
def test_ptx_does_the_same(template: str) -> None:
    case = Case(h=5, w=4, c=16, oc=12, adds=True)
    only = f"{template} 128x16"
    assert check(case, TARGETS[template], only=only, placement="pitch4", machine=InterpretedMachine)
