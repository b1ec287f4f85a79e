"""conv_mma: tiles, splits, ways to read x, on the emulator; a few on the PTX that NVRTC emits."""

from __future__ import annotations

import pytest

from tests.engines.cuda.convolutions import Case, check

SHAPES = {
    "3x3, whole steps": Case(h=9, w=8, c=64, oc=64),
    "3x3, taps across steps": Case(h=7, w=9, c=48, oc=40, n=2),
    "1x1": Case(h=8, w=9, c=80, oc=72, kernel=(1, 1), before=(0, 0), after=(0, 0)),
    "1x1 with a stride": Case(
        h=9, w=7, c=32, oc=24, kernel=(1, 1), stride=(2, 2), before=(0, 0), after=(0, 0)
    ),
    "1x1, padded": Case(h=4, w=5, c=16, oc=16, kernel=(1, 1)),
    "strides, dilations, uneven padding": Case(
        h=15, w=12, c=16, oc=20, stride=(2, 1), dilation=(2, 3), before=(1, 2), after=(3, 1)
    ),
    "a window beyond x": Case(h=2, w=3, c=16, oc=16, kernel=(7, 5), before=(3, 2), after=(3, 2)),
    "one long row": Case(h=1, w=40, c=16, oc=16, kernel=(1, 15), before=(0, 7), after=(0, 7)),
    "a valid window": Case(h=7, w=8, c=32, oc=16, before=(0, 0), after=(0, 0)),
    "residual addition": Case(h=6, w=6, c=32, oc=32, adds=True),
    "residual addition and table": Case(h=6, w=6, c=32, oc=30, adds=True, looks_up=True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_exact(name: str) -> None:
    assert check(SHAPES[name], "sm_87", only="conv_mma 64x64x64", placement="pitch16")
