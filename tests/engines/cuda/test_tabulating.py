"""What is a function of one int8 becomes one table, and nothing else does."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.fusing import fuse
from edgeq.engines.cuda.nodes import Convolution, Lookup, Node, Product, Program, Sum
from edgeq.engines.cuda.reference import evaluate
from edgeq.engines.cuda.tabulating import tabulate
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
