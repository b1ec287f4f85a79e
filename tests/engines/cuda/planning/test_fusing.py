"""Fusing leaves fewer nodes, and every output bit for bit."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.planning.fusing import fuse
from edgeq.engines.cuda.program.nodes import Convolution, Depthwise, Lookup, Move, Program, Sum
from edgeq.engines.cuda.program.reference import evaluate
from tests.engines.cuda.programs import MIRRORED, Builder


def _fused(builder: Builder, *outputs: int) -> Program:
    """Fuse, and hold the outputs against those of the program as it was."""
    program, given = builder.finish(*outputs), builder.given()
    fused = fuse(program, lambda _: None)
    before, after = evaluate(program, given), evaluate(fused, given)
    for output in outputs:
        np.testing.assert_array_equal(after[output], before[output])
    return fused


def _kinds(program: Program) -> list[type]:
    return [type(node) for node in program.nodes]


def test_a_convolution_pads_for_itself() -> None:
    builder = Builder()
    x = builder.input(1, 5, 6, 4)
    padded = builder.slice(x, (0, -1, -2, 0), (1, 7, 9, 4))  # one below, one to the right
    fused = _fused(builder, builder.convolution(padded, 3, size=3))
    assert _kinds(fused) == [Convolution]
    node = fused.nodes[0]
    assert isinstance(node, Convolution)
    assert (node.window.before, node.window.after) == ((1, 2), (1, 1))
    assert fused.labels == ("Move 0 + Convolution 1",)


def test_a_pad_that_two_convolutions_read_goes_into_both() -> None:
    builder = Builder()
    padded = builder.slice(builder.input(1, 4, 4, 4), (0, -1, -1, 0), (1, 6, 6, 4))
    outputs = builder.convolution(padded, 4, size=3), builder.depthwise(padded, padding=0)
    assert _kinds(_fused(builder, *outputs)) == [Convolution, Depthwise]


def test_a_pad_of_another_value_or_of_channels_stays() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    channels = builder.slice(x, (0, 0, 0, -1), (1, 4, 4, 6))
    assert _kinds(_fused(builder, builder.convolution(channels, 4))) == [Move, Convolution]
    cut = builder.slice(x, (0, -1, 1, 0), (1, 6, 3, 4))  # grows above and below, shrinks beside
    assert Move in _kinds(_fused(builder, builder.convolution(cut, 4)))


def test_a_pad_that_is_an_output_too_stays() -> None:
    builder = Builder()
    padded = builder.slice(builder.input(1, 4, 4, 4), (0, -1, -1, 0), (1, 6, 6, 4))
    assert _kinds(_fused(builder, builder.convolution(padded, 4), padded)) == [Move, Convolution]


def test_the_residual_is_added_where_the_later_convolution_stores() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    shortcut, main = builder.convolution(x, 8), builder.convolution(x, 8)
    fused = _fused(builder, builder.sum(shortcut, main))
    assert _kinds(fused) == [Convolution, Convolution]
    last = fused.nodes[-1]
    assert isinstance(last, Convolution)
    assert last.epilogue.addition == MIRRORED  # the convolution is a, the shortcut b
    assert last.epilogue.other == shortcut


def test_the_first_side_is_taken_where_the_other_is_an_input() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    assert _kinds(_fused(builder, builder.sum(builder.depthwise(x), x))) == [Depthwise]


def test_a_convolution_that_others_read_keeps_its_result() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    main = builder.convolution(x, 4)
    assert _kinds(_fused(builder, builder.sum(main, x), main)) == [Convolution, Sum]


def test_a_sum_of_one_value_with_itself_is_a_table() -> None:
    builder = Builder()
    main = builder.convolution(builder.input(1, 4, 4, 4), 4)
    assert _kinds(_fused(builder, builder.sum(main, main))) == [Convolution]


def test_tables_after_the_sum_go_into_the_convolution() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    total = builder.sum(builder.convolution(x, 4), x)
    looked_up = builder.lookup(builder.lookup(total, seed=1), seed=2)
    assert _kinds(_fused(builder, looked_up)) == [Convolution]


def test_a_table_before_the_sum_is_looked_up_before_it() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    total = builder.sum(builder.lookup(builder.convolution(x, 4), seed=1), x)
    fused = _fused(builder, total)
    assert _kinds(fused) == [Convolution]
    node = fused.nodes[0]
    assert isinstance(node, Convolution)
    assert node.epilogue.is_table_first


def test_tables_on_both_sides_of_the_sum_leave_the_last_one() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    total = builder.sum(builder.lookup(builder.convolution(x, 4), seed=1), x)
    assert _kinds(_fused(builder, builder.lookup(total, seed=2))) == [Convolution, Lookup]


def test_two_tables_of_an_input_become_one() -> None:
    builder = Builder()
    x = builder.input(3, 7)
    assert _kinds(_fused(builder, builder.lookup(builder.lookup(x, seed=1), seed=2))) == [Lookup]


def test_what_nobody_reads_is_left_out() -> None:
    builder = Builder()
    x = builder.input(1, 4, 4, 4)
    builder.lookup(builder.convolution(x, 4))
    assert _kinds(_fused(builder, builder.lookup(x))) == [Lookup]
