"""What is a function of one int8 becomes one table, and nothing else does."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.planning.fusing import fuse
from edgeq.engines.cuda.planning.tabulating import tabulate
from edgeq.engines.cuda.program.nodes import (
    Convolution,
    Dequantize,
    Extremum,
    Lookup,
    Node,
    Product,
    Program,
    Sum,
)
from edgeq.engines.cuda.program.reference import evaluate
from tests.engines.cuda.programs import Builder


def product(builder: Builder, a: int, b: int) -> int:
    y = builder.value(*builder.values[a].shape)
    builder.nodes.append(Product(a, b, y, 4, -11, 0.0123, 3, -120, 110))
    return y


def fused(builder: Builder, *outputs: int) -> list[Node]:
    """Fuse, and hold all outputs to the reference."""
    program, given = builder.finish(*outputs), builder.given()
    result: Program = fuse(program, lambda _: None)
    before, after = evaluate(program, given), evaluate(result, given)
    for output in outputs:
        np.testing.assert_array_equal(after[output], before[output])
    return list(result.nodes)


def kinds(nodes: list[Node]) -> list[type]:
    return [type(node) for node in nodes]


def test_a_value_times_its_sigmoid_goes_into_the_convolution() -> None:
    builder = Builder()
    main = builder.convolution(builder.input(1, 4, 4, 4), 4)
    (node,) = fused(builder, product(builder, main, builder.lookup(main)))
    assert isinstance(node, Convolution)
    assert node.epilogue.table is not None


def test_either_operand_may_be_the_table_s() -> None:
    builder = Builder()
    x = builder.input(2, 3)
    assert kinds(fused(builder, product(builder, builder.lookup(x), x))) == [Lookup]


def test_two_tables_of_one_value_are_joined() -> None:
    builder = Builder()
    x = builder.input(2, 3)
    y = builder.sum(builder.lookup(x, seed=1), builder.lookup(x, seed=2))
    assert kinds(fused(builder, y)) == [Lookup]


def test_a_table_that_others_read_stays() -> None:
    builder = Builder()
    x = builder.input(2, 3)
    looked_up = builder.lookup(x)
    nodes = fused(builder, product(builder, x, looked_up), looked_up)
    assert kinds(nodes) == [Lookup, Lookup]
    assert {node.x for node in nodes if isinstance(node, Lookup)} == {x}


def test_values_of_their_own_are_added_as_before() -> None:
    builder = Builder()
    a, b = builder.input(2, 3), builder.input(2, 3)
    y = builder.sum(builder.lookup(a), b)
    assert kinds(fused(builder, y)) == [Lookup, Sum]


def test_broadcasts_are_left_alone() -> None:
    builder = Builder()
    x = builder.input(2, 1)
    y = builder.value(2, 2)
    wide = builder.input(2, 2)
    builder.nodes.append(Product(wide, x, y, 4, -11, 0.0123, 3, -120, 110))
    program = builder.finish(y)
    assert tabulate(program, 0) is None


def test_the_larger_of_a_value_and_its_part_is_a_table() -> None:
    builder = Builder()
    x = builder.input(2, 3)
    y = builder.value(2, 3)
    builder.nodes.append(Extremum("maximum", builder.lookup(x), x, y))
    assert kinds(fused(builder, y)) == [Lookup]


def dequantized(builder: Builder, x: int) -> int:
    y = builder.value(*builder.values[x].shape, datatype="float32")
    builder.nodes.append(Dequantize(x, y, 0.037, 9))
    return y


def test_a_table_that_is_only_dequantized_holds_floats() -> None:
    builder = Builder()
    looked_up = builder.lookup(builder.input(2, 3))
    (node,) = fused(builder, dequantized(builder, looked_up))
    assert isinstance(node, Lookup)
    assert node.table.dtype == np.float32


def test_a_table_that_a_convolution_can_take_goes_there_first() -> None:
    builder = Builder()
    main = builder.lookup(builder.convolution(builder.input(1, 4, 4, 4), 4))
    assert kinds(fused(builder, dequantized(builder, main))) == [Convolution, Dequantize]


def test_a_table_that_is_an_output_too_stays_int8() -> None:
    builder = Builder()
    looked_up = builder.lookup(builder.input(2, 3))
    nodes = fused(builder, dequantized(builder, looked_up), looked_up)
    assert kinds(nodes) == [Lookup, Dequantize]
