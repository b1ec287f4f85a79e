"""Resizing kernels read where the reference does and weigh as it does."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.resizing import bilinear_choices, nearest_choices
from edgeq.engines.cuda.program.nodes import BilinearResize, NearestResize, Value
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, check_node

ORIN = Target(87)
RANDOM = np.random.default_rng(23)


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def values(x: tuple[int, ...], h: int, w: int) -> tuple[Value, Value]:
    return Value("x", x, "int8"), Value("y", (x[0], h, w, x[3]), "int8")


def evenly(extent: int, count: int) -> np.ndarray:
    return (np.arange(count) * extent // count).astype(np.int32)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("channels", [16, 6])
def test_nearest(placement: str, channels: int) -> None:
    x = (2, 3, 4, channels)
    node = NearestResize(0, 1, evenly(3, 6), evenly(4, 9))
    check_node(nearest_choices, node, values(x, 6, 9), {0: int8(*x)}, ORIN, placement=placement)


def test_nearest_of_rows_that_no_division_gives() -> None:
    x = (1, 5, 4, 8)
    node = NearestResize(0, 1, np.int32([0, 2, 4]), np.int32([1, 1, 3, 3, 3]))
    check_node(nearest_choices, node, values(x, 3, 5), {0: int8(*x)}, ORIN)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("channels", [16, 5])
def test_bilinear(placement: str, channels: int) -> None:
    x = (2, 4, 3, channels)
    rows = np.stack([np.arange(7) // 2, np.minimum(np.arange(7) // 2 + 1, 3)], 1).astype(np.int32)
    columns = np.int32([[0, 1], [1, 2], [2, 2], [0, 0], [1, 1]])
    weights = np.int32([0, 1024, 2048, 1, 2047, 700, 1300])
    node = BilinearResize(0, 1, rows, columns, weights, weights[:5])
    array = int8(*x)
    array[0, :, :, 0] = [[-128, 127, -128]] * 4  # the largest differences
    check_node(bilinear_choices, node, values(x, 7, 5), {0: array}, ORIN, placement=placement)
