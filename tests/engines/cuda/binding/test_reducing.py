"""Means, poolings and softmax compute what the reference does, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.engines.cuda.binding import pooling, reducing, softmax
from edgeq.engines.cuda.program.nodes import Mean, Pooling, Softmax, Value, Window
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.harness import DENSE, PLACEMENTS, check_node

ORIN = Target(87)
RANDOM = np.random.default_rng(17)


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def values(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[Value, Value]:
    return Value("x", x, "int8"), Value("y", y, "int8")


def mean(outer: int, count: int, inner: int) -> Mean:
    scale = float(np.float32(1.37 / count))
    return Mean(0, 1, outer, count, inner, scale, 6.3, -120, 119)


@pytest.mark.parametrize(
    ("x", "y", "parts"),
    [
        ((1, 7, 7, 80), (1, 1, 1, 80), (1, 49, 80)),
        ((2, 3, 5, 36), (2, 36), (2, 15, 36)),
        ((1, 40, 3, 5), (1, 5), (1, 120, 5)),
        ((2, 5, 3, 8), (2, 3, 8), (2, 5, 24)),  # over the height
        ((2, 3, 5, 16), (2, 3, 16), (6, 5, 16)),  # over the width
        ((2, 3, 5, 16), (2, 3, 5), (30, 16, 1)),  # over channels
        ((1, 2, 3, 700), (1, 2, 3, 1), (6, 700, 1)),
        ((2, 3, 5, 7), (2,), (2, 105, 1)),
        ((3, 1), (3,), (3, 1, 1)),
    ],
)
@pytest.mark.parametrize("placement", ["dense", "pitch16", "slice_odd"])
def test_means(
    x: tuple[int, ...], y: tuple[int, ...], parts: tuple[int, int, int], placement: str
) -> None:
    where = {0: PLACEMENTS[placement], 1: DENSE}
    check_node(reducing.choices, mean(*parts), values(x, y), {0: int8(*x)}, ORIN, placements=where)


def test_a_mean_is_written_into_a_slice() -> None:
    x, y = (2, 3, 3, 20), (2, 1, 1, 20)
    for placement in ("slice_odd", "slice16"):
        check_node(reducing.choices, mean(2, 9, 20), values(x, y), {0: int8(*x)}, ORIN,
                   placement=placement)  # fmt: skip


def test_a_mean_over_parts_of_dimensions_is_refused() -> None:
    with pytest.raises(EngineError, match="does not fall into parts"):
        check_node(reducing.choices, mean(2, 3, 12), values((6, 4, 3), (2, 12)),
                   {0: int8(6, 4, 3)}, ORIN)  # fmt: skip


@pytest.mark.parametrize("kind", ["average", "maximum"])
@pytest.mark.parametrize(
    ("window", "x", "y"),
    [
        (Window((2, 2), (2, 2)), (2, 6, 4, 16), (2, 3, 2, 16)),
        (Window((3, 3), (2, 2), before=(0, 1), after=(1, 1)), (1, 7, 5, 11), (1, 3, 3, 11)),
        (Window((3, 2), (1, 1), before=(1, 0), after=(1, 1)), (2, 4, 5, 12), (2, 4, 5, 12)),
        (Window((1, 1), (2, 3)), (1, 5, 7, 3), (1, 3, 3, 3)),
        (Window((5, 6), (1, 1)), (2, 5, 6, 40), (2, 1, 1, 40)),
        (Window((6, 7), (3, 3), before=(1, 1)), (1, 5, 6, 8), (1, 1, 1, 8)),
    ],
)
def test_pooling(kind: str, window: Window, x: tuple[int, ...], y: tuple[int, ...]) -> None:
    node = Pooling(kind, 0, 1, window, -100, 90)  # type: ignore[arg-type]
    for placement in ("dense", "pitch16", "slice4"):
        check_node(pooling.choices, node, values(x, y), {0: int8(*x)}, ORIN, placement=placement)


def test_an_average_of_a_half_goes_away_from_zero() -> None:
    x = np.array([[3, 4], [-3, -4], [1, 2], [0, -1]], np.int8).T.reshape(1, 1, 2, 4)
    node = Pooling("average", 0, 1, Window((1, 2), (1, 2)), -128, 127)
    check_node(pooling.choices, node, values(x.shape, (1, 1, 1, 4)), {0: x}, ORIN)


def test_pooling_of_a_whole_image_is_shared_by_many_threads() -> None:
    x = (1, 7, 7, 64)
    node = Pooling("average", 0, 1, Window((7, 7), (1, 1)), -128, 127)
    names = check_node(pooling.choices, node, values(x, (1, 1, 1, 64)), {0: int8(*x)}, ORIN)
    assert names[0].startswith("reduce_columns")


def exponentials(scale: float) -> np.ndarray:
    return np.exp(-scale * np.arange(256)).astype(np.float32)


@pytest.mark.parametrize(
    "x", [(1, 10), (3, 1), (1, 1001), (2, 3, 5, 17), (70, 16), (35, 300)], ids=str
)
@pytest.mark.parametrize("scale", [0.003, 0.21])
def test_softmax_adds_in_the_order_of_the_row(x: tuple[int, ...], scale: float) -> None:
    node = Softmax(0, 1, x[-1], exponentials(scale), 1 / 256, -128)
    array = int8(*x)
    array.reshape(-1, x[-1])[0] = 5  # all alike
    for placement in ("dense", "slice_odd") if math.prod(x) < 600 else ("dense",):
        check_node(softmax.choices, node, values(x, x), {0: array}, ORIN, placement=placement)


def test_a_certain_class_saturates() -> None:
    x = np.full((1, 4), -128, np.int8)
    x[0, 2] = 127
    node = Softmax(0, 1, 4, exponentials(0.5), 1 / 256, -128)
    check_node(softmax.choices, node, values(x.shape, x.shape), {0: x}, ORIN)


def test_a_long_row_is_added_in_pieces() -> None:
    x = (2, 9001)
    node = Softmax(0, 1, 9001, exponentials(0.03), 1 / 4096, -128)
    check_node(softmax.choices, node, values(x, x), {0: int8(*x)}, ORIN, seeds=(1,))


def test_a_sum_in_pieces_rounds_as_one_after_the_other() -> None:
    """Rows whose result tells the sum from its neighbours: the last bit shows."""
    depth, scale = 500, 1 / 65536
    table = exponentials(0.02)
    x = RANDOM.integers(40, 128, (10_000, depth)).astype(np.int8)
    terms = table[x.max(axis=1, keepdims=True).astype(int) - x]
    total = np.cumsum(terms, axis=1)[:, -1:]
    sums = [total, np.nextafter(total, np.float32(0)), np.nextafter(total, np.float32(1e9))]
    found = [np.floor(terms * (1 / (s * np.float32(scale))) + np.float64(0.5)) for s in sums]
    less, more = (x[(found[0] != other).any(axis=1)] for other in found[1:])
    assert min(len(less), len(more)) > 4
    rows = np.concatenate([less[:16], more[:16]])
    node = Softmax(0, 1, depth, table, scale, -128)
    names = check_node(softmax.choices, node, values(rows.shape, rows.shape), {0: rows}, ORIN)
    assert any(name.startswith("softmax_pieces") for name in names)


@pytest.mark.parametrize("depth", [33, 100, 1001])
def test_terms_in_the_middle_of_two_units_are_added_one_by_one(depth: int) -> None:
    table = (2.0 ** -np.arange(256)).astype(np.float32)  # 2^-24 of 1 is half a unit
    table[200:] = 0
    x = RANDOM.choice([127, 127 - 23, 127 - 24, 127 - 25, 0, -128], (6, depth))
    x[0], x[1] = 127 - 24, 3
    x[:, 0] = 127
    node = Softmax(0, 1, depth, table, 1 / 256, -128)
    check_node(softmax.choices, node, values(x.shape, x.shape), {0: x.astype(np.int8)}, ORIN,
               only="pieces")  # fmt: skip


def test_softmax_along_no_axis_is_refused() -> None:
    node = Softmax(0, 1, 6, exponentials(0.1), 1 / 256, -128)
    with pytest.raises(EngineError, match="along no last axis"):
        check_node(softmax.choices, node, values((2, 2, 3), (2, 2, 3)), {0: int8(2, 2, 3)}, ORIN)
