"""The convolutions on tensor cores: shapes, tiles, ways to read x; a few on the PTX itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.cuda.convolutions import Case, check
from tests.engines.cuda.harness import PITCH_4, PITCH_16, SLICE_ODD
from tests.engines.cuda.machines import InterpretedMachine

POINTWISE: dict[str, Any] = {"kernel": (1, 1), "before": (0, 0), "after": (0, 0)}
SHAPES = {
    "3x3, whole steps": Case(h=9, w=8, c=64, oc=64),
    "3x3, taps across steps": Case(h=7, w=9, c=48, oc=40, n=2),
    "1x1": Case(h=8, w=9, c=80, oc=72, **POINTWISE),
    "1x1 with a stride": Case(h=9, w=7, c=160, oc=24, stride=(2, 2), **POINTWISE),
    "1x1, padded": Case(h=4, w=5, c=48, kernel=(1, 1)),
    "strides, dilations, uneven padding": Case(
        h=15, w=12, oc=20, stride=(2, 1), dilation=(2, 3), before=(1, 2), after=(3, 1)
    ),
    "a window beyond x": Case(h=2, w=3, kernel=(7, 5), before=(3, 2), after=(3, 2)),
    "one long row": Case(h=1, w=40, kernel=(1, 15), before=(0, 7), after=(0, 7)),
    "a valid window": Case(h=7, w=8, c=32, before=(0, 0), after=(0, 0)),
    "channels with padding": Case(c=20, oc=35),
    "residual addition": Case(h=6, w=6, c=32, oc=32, adds=True),
    "residual addition and table": Case(h=6, w=6, c=32, oc=30, adds=True, looks_up=True),
    "table, then residual addition": Case(
        h=6, w=6, c=32, oc=32, adds=True, looks_up=True, looks_up_first=True
    ),
    "sums beyond 2^22": Case(h=3, w=11, c=512, oc=32, is_extreme=True, **POINTWISE),
    "results half way between integers": Case(h=17, w=17, has_ties=True, **POINTWISE),
}
FIRST = {  # of a net: few channels, read 4 or 8 bytes at a time
    "7x7 by 2, folded": Case(
        h=13, w=14, c=3, oc=24, kernel=(7, 7), stride=(2, 2), before=(2, 2), after=(3, 3)
    ),
    "3x3 by 2, folded": Case(h=8, w=10, c=3, oc=24, stride=(2, 2), before=(0, 0)),
    "an odd width, not folded": Case(h=8, w=11, c=3, oc=24, stride=(2, 2)),
    "patches of 4 x 4": Case(
        h=8, w=12, c=3, oc=20, kernel=(4, 4), stride=(4, 4), before=(0, 0), after=(0, 0)
    ),
    "3x3 over 7 channels": Case(h=5, w=6, c=7, oc=8),
}


# Steps and stages are no more than K fills.
SHALLOW = dict.fromkeys(["1x1, padded", "3x3 by 2, folded", "an odd width, not folded"], "x64 s2")
SHALLOW |= {"patches of 4 x 4": "x64 s2", "results half way between integers": "x32 s2"}


def first_tile(shape: str, warps: str, name: str) -> str:
    """Return the name of a tile's shortest pipeline for a case."""
    step, stages = SHALLOW.get(name, "x64 s3").split()
    return f"conv_mma {shape}{step} {warps} {stages} k1"


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_exact(name: str) -> None:
    only = first_tile("64x64", "w32x32", name)
    assert check(SHAPES[name], "sm_87", only=only, placement="pitch16") == (only,)


@pytest.mark.parametrize("name", FIRST)
def test_few_channels_are_exact(name: str) -> None:
    only = first_tile("64x32", "w32x16", name)
    assert check(FIRST[name], "sm_87", only=only, placement="pitch4", seeds=(1,)) == (only,)


@pytest.mark.parametrize("name", ["1x1", "residual addition and table", "7x7 by 2, folded"])
@pytest.mark.parametrize(
    ("only", "target"),
    [
        ("conv_mma_8816 64x64x64 w32x32 s2 k1", "sm_75"),
        ("conv_wmma 64x64x64 w32x32 s2 k1", "sm_72"),
    ],
)
def test_older_tensor_cores_are_exact(name: str, only: str, target: str) -> None:
    case, placement = (FIRST[name], "pitch4") if name in FIRST else (SHAPES[name], "pitch16")
    assert check(case, target, only=only, placement=placement, seeds=(1,)) == (only,)


@pytest.mark.parametrize("only", [" s3 k1", "32x32x64 w16x16 s6 k", "64x64x128 w32x32 s4 k2"])
def test_every_tile_is_exact(only: str) -> None:
    case = Case(h=4, w=5, c=64, oc=40, adds=True)
    assert check(case, "sm_90", only=only, placement="pitch16", seeds=(1,))


@pytest.mark.parametrize("placement", ["slice16", "slice4", "slice_odd"])
def test_any_place_of_y_will_do(placement: str) -> None:
    case = Case(h=5, w=5, oc=24, adds=True)
    only = "conv_mma 32x32x64 w16x16 s3 k1"
    where = {0: PITCH_16}
    assert check(case, "sm_87", only=only, placement=placement, placements=where) == (only,)


def test_x_at_odd_places_is_left_to_the_direct_kernel() -> None:
    names = check(Case(c=5, oc=4), "sm_87", placement=PITCH_16, placements={0: SLICE_ODD})
    assert names == ("conv_direct",)


@pytest.mark.parametrize(
    ("only", "target"),
    [
        ("conv_mma 32x32x64 w16x16 s3 k2", "sm_87"),
        ("conv_mma 64x64x64 w32x32 s6 k1", "sm_90"),
        ("conv_mma_8816 32x32x64 w16x16 s2 k1", "sm_75"),
        ("conv_wmma 32x32x64 w16x16 s2 k1", "sm_72"),
    ],
)
def test_ptx_does_the_same(only: str, target: str) -> None:
    case = Case(h=5, w=4, c=64, oc=24, adds=True, looks_up=True)
    names = check(
        case, target, only=only, placement="pitch16", machine=InterpretedMachine, seeds=(0,)
    )
    assert names == (only,)


def test_ptx_reads_few_channels_the_same() -> None:
    case = Case(h=6, w=6, c=3, oc=8, stride=(2, 2), before=(0, 0))
    only = "conv_mma 32x32x64 w16x16 s2 k1"
    where = {0: PITCH_4}
    names = check(
        case, "sm_87", only=only, placement=PITCH_16, placements=where, machine=InterpretedMachine
    )
    assert names == (only,)
