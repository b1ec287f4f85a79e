"""Kernels that work value by value compute what the reference does, wherever values lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.engines.cuda.binding.elementwise import (
    channel_lookup_choices,
    dequantize_choices,
    extremum_choices,
    lookup_choices,
    product_choices,
    quantize_choices,
    sum_choices,
)
from edgeq.engines.cuda.program.nodes import (
    Addition,
    ChannelLookup,
    Dequantize,
    Extremum,
    FixedPoint,
    Lookup,
    Product,
    Quantize,
    Sum,
    Value,
)
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import DENSE, PITCH_4, PITCH_16, PLACEMENTS, check_node
from tests.engines.cuda.machines import InterpretedMachine

ORIN = Target(87)
RANDOM = np.random.default_rng(11)
ADDITION = Addition(700_001, -333_003, 5_000_000, 19, -7, -100, 121)
BROADCASTS = [
    ((2, 5, 3, 16), (2, 5, 3, 16)),
    ((1, 4, 6, 12), (1, 1, 1, 12)),
    ((1, 4, 6, 12), (12,)),
    ((2, 4, 3, 8), (2, 4, 3, 1)),
    ((2, 4, 3, 8), (2, 1, 3, 8)),
    ((1, 1, 1, 5), (1, 7, 2, 1)),
    ((3, 1, 4), (2, 1, 5, 1)),
    ((1, 5, 7, 3), ()),
    ((1,), (1,)),
    ((6, 33), (1, 33)),
]


def int8(*shape: int) -> np.ndarray:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def values(x: tuple[int, ...], y: tuple[int, ...], *datatypes: str) -> tuple[Value, Value]:
    before, after = datatypes or ("int8", "int8")
    return Value("x", x, before), Value("y", y, after)  # type: ignore[arg-type]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("datatype", ["int8", "uint8"])
def test_quantize_rounds_to_even_and_saturates(placement: str, datatype: str) -> None:
    x = RANDOM.normal(0, 80, (2, 3, 5, 3)).astype(np.float32)
    x.flat[:7] = [0.5, 1.5, -0.5, 3e38, -np.inf, -0.0, np.nan]
    node = Quantize(0, 1, 1.0, -3 if datatype == "int8" else 100)
    placements = {0: DENSE, 1: PLACEMENTS[placement]}
    check_node(quantize_choices, node, values(x.shape, x.shape, "float32", datatype), {0: x},
               ORIN, placements=placements)  # fmt: skip


def test_a_padded_image_is_quantized_a_word_a_pixel() -> None:
    x = RANDOM.normal(0, 2, (1, 6, 7, 3)).astype(np.float32)
    node = Quantize(0, 1, 31.7, 5)
    for placement in (PITCH_4, PITCH_16):
        names = check_node(quantize_choices, node, values(x.shape, x.shape, "float32", "int8"),
                           {0: x}, ORIN, placements={0: DENSE, 1: placement})  # fmt: skip
        assert names == ("quantize x4",)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("datatype", ["int8", "uint8"])
def test_dequantize(placement: str, datatype: str) -> None:
    x = int8(2, 3, 5, 8).view(datatype)
    node = Dequantize(0, 1, 0.037, 9)
    placements = {0: PLACEMENTS[placement], 1: PLACEMENTS[placement]}
    check_node(dequantize_choices, node, values(x.shape, x.shape, datatype, "float32"), {0: x},
               ORIN, placements=placements)  # fmt: skip


@pytest.mark.parametrize("shape", [(1, 3, 7, 21), (2,), (2, 1, 9)], ids=str)
def test_floats_are_stored_by_fours_however_x_lies(shape: tuple[int, ...]) -> None:
    for placement in ("dense", "pitch4", "slice_odd"):
        names = check_node(dequantize_choices, Dequantize(0, 1, 0.037, 9),
                           values(shape, shape, "int8", "float32"), {0: int8(*shape)}, ORIN,
                           placements={0: PLACEMENTS[placement], 1: DENSE})  # fmt: skip
        assert names == ("dequantize x4 gathered",)


def binary_values(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[Value, Value, Value]:
    y = np.broadcast_shapes(a, b)
    return Value("a", a, "int8"), Value("b", b, "int8"), Value("y", y, "int8")


@pytest.mark.parametrize(("a", "b"), BROADCASTS, ids=str)
def test_sums_broadcast_as_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    arrays = {0: int8(*a), 1: int8(*b)}
    for one, other, placement in ((0, 1, "dense"), (1, 0, "pitch4")):
        node = Sum(one, other, 2, ADDITION)
        check_node(sum_choices, node, binary_values(a, b), arrays, ORIN, placement=placement)


@pytest.mark.parametrize(("a", "b"), BROADCASTS[::2], ids=str)
def test_products_broadcast_as_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    arrays = {0: int8(*a), 1: int8(*b)}
    node = Product(0, 1, 2, 4, -11, 0.0123, 3, -120, 110)
    check_node(product_choices, node, binary_values(a, b), arrays, ORIN, placement="pitch16")


@pytest.mark.parametrize("kind", ["maximum", "minimum"])
@pytest.mark.parametrize(("a", "b"), [((1, 3, 5, 8), (1, 3, 5, 8)), ((2, 3, 5), (3, 1)),
                                      ((7, 33), (33,))], ids=str)  # fmt: skip
def test_extrema_broadcast_as_numpy_s(kind: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    arrays = {0: int8(*a), 1: int8(*b)}
    for placement in PLACEMENTS:
        check_node(extremum_choices, Extremum(kind, 0, 1, 2), binary_values(a, b), arrays, ORIN,
                   placement=placement)  # fmt: skip


@pytest.mark.parametrize(("left", "right"), [(0, 5), (0, 15), (9, 1)])
def test_a_product_is_scaled_in_integers_where_the_cpu_does_so(left: int, right: int) -> None:
    arrays = {0: np.repeat(np.arange(-128, 128), 256).astype(np.int8).reshape(256, 256)}
    arrays[1] = arrays[0].T.copy()
    fixed = FixedPoint(1_234_567_808, left, right)
    node = Product(0, 1, 2, -128, 127, 1.0, 3, -120, 110, fixed)
    check_node(product_choices, node, binary_values((256, 256), (256, 256)), arrays, ORIN)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_sums_keep_to_their_view(placement: str) -> None:
    shape = (2, 3, 5, 11)
    node = Sum(0, 1, 2, ADDITION)
    check_node(sum_choices, node, binary_values(shape, shape), {0: int8(*shape), 1: int8(*shape)},
               ORIN, placement=placement)  # fmt: skip


def test_runs_of_any_length_are_handled_in_wide_accesses() -> None:
    shape = (1, 13, 7)
    arrays = {0: int8(*shape), 1: int8(*shape)}
    names = check_node(lookup_choices, Lookup(0, 1, int8(256)), values(shape, shape), arrays, ORIN)
    names += check_node(sum_choices, Sum(0, 1, 2, ADDITION), binary_values(shape, shape), arrays,
                        ORIN)  # fmt: skip
    scalar = binary_values(shape, ())
    names += check_node(product_choices, Product(1, 0, 2, 4, -11, 0.0123, 3, -120, 110),
                        (scalar[1], *scalar[::2]), {0: int8(), 1: arrays[1]}, ORIN)  # fmt: skip
    assert all(int(name.rpartition("x")[2]) > 1 for name in names)


def test_a_value_may_be_added_to_itself() -> None:
    node = Sum(0, 0, 1, ADDITION)
    x = int8(1, 3, 5, 4)
    check_node(sum_choices, node, values(x.shape, x.shape), {0: x}, ORIN)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_lookup(placement: str) -> None:
    node = Lookup(0, 1, int8(256))
    for before, after in (("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")):
        x = int8(1, 3, 5, 20).view(before)
        typed = Lookup(0, 1, node.table.view(after))
        check_node(lookup_choices, typed, values(x.shape, x.shape, before, after), {0: x}, ORIN,
                   placement=placement)  # fmt: skip


@pytest.mark.parametrize("placement", ["dense", "pitch16", "slice_odd"])
@pytest.mark.parametrize("datatype", ["int8", "uint8"])
def test_a_table_of_floats(placement: str, datatype: str) -> None:
    x = int8(1, 3, 5, 20).view(datatype)
    table = RANDOM.normal(size=256).astype(np.float32)
    check_node(lookup_choices, Lookup(0, 1, table), values(x.shape, x.shape, datatype, "float32"),
               {0: x}, ORIN, placements={0: PLACEMENTS[placement], 1: DENSE})  # fmt: skip


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("channels", [3, 16])
def test_channel_lookup(placement: str, channels: int) -> None:
    x = int8(2, 3, 2, channels)
    node = ChannelLookup(0, 1, int8(channels, 256))
    check_node(channel_lookup_choices, node, values(x.shape, x.shape), {0: x}, ORIN,
               placement=placement)  # fmt: skip


@pytest.mark.parametrize(
    ("placement", "channels", "widths"),
    [("dense", 16, {16, 8, 4}), ("pitch16", 11, {16, 8, 4}), ("slice16", 16, {16, 8, 4}),
     ("slice4", 16, {4}), ("slice4", 11, {1}), ("slice_odd", 16, {1})],
)  # fmt: skip
def test_accesses_are_as_wide_as_the_views_allow(
    placement: str, channels: int, widths: set[int]
) -> None:
    shape = (1, 3, 5, channels)
    names = check_node(lookup_choices, Lookup(0, 1, int8(256)), values(shape, shape),
                       {0: int8(*shape)}, ORIN, placement=placement, seeds=(0,))  # fmt: skip
    assert {int(name.rpartition("x")[2]) for name in names} <= widths


@pytest.mark.parametrize(("choices", "node"), [
    (extremum_choices, Extremum("minimum", 0, 1, 2)),
    (product_choices, Product(0, 1, 2, 3, -9, 1.0, 4, -128, 127, FixedPoint(2**30 + 3, 2, 9))),
], ids=["extremum", "product"])  # fmt: skip
def test_the_ptx_of_pairs_agrees_with_the_reference(choices: Any, node: Any) -> None:
    arrays = {0: int8(2, 5, 8), 1: int8(5, 8)}
    check_node(choices, node, binary_values((2, 5, 8), (5, 8)), arrays, ORIN,
               machine=InterpretedMachine)  # fmt: skip
