"""Halves of a value that are concatenated side by side are not copied."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.planning.borders import prepare_borders
from edgeq.engines.cuda.planning.fusing import fuse
from edgeq.engines.cuda.planning.layout import lay_out
from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.nodes import Move
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.memory import Memory
from tests.engines.cuda.programs import Builder


def _copies(builder: Builder, output: int) -> int:
    """Fuse and lay out, hold the output to the reference, and count what is still copied."""
    program, given = builder.finish(output), builder.given()
    layout = lay_out(prepare_borders(fuse(program, check_program)), Target(87))
    actual = Memory(layout, given).run()[output]
    np.testing.assert_array_equal(actual, evaluate(program, given)[output])
    return sum(isinstance(node, Move) for node in layout.program.nodes)


def _halves(builder: Builder) -> tuple[int, int, int]:
    whole = builder.convolution(builder.input(1, 4, 4, 4), 12)
    first = builder.slice(whole, (0, 0, 0, 0), (1, 4, 4, 5))
    second = builder.slice(whole, (0, 0, 0, 5), (1, 4, 4, 7))
    return whole, first, second


def test_a_block_that_keeps_both_halves_copies_neither() -> None:
    builder = Builder()
    _, first, second = _halves(builder)
    computed = builder.convolution(second, 7)
    joined = builder.concatenation([first, second, computed])
    assert _copies(builder, builder.convolution(joined, 8)) == 0


def test_the_halves_may_come_after_something_else() -> None:
    builder = Builder()
    _, first, second = _halves(builder)
    computed = builder.convolution(second, 7)
    joined = builder.concatenation([computed, first, second])
    assert _copies(builder, builder.convolution(joined, 8)) == 0


@pytest.mark.parametrize("order", ["swapped", "apart", "one"])
def test_halves_in_another_order_or_place_are_copied(order: str) -> None:
    builder = Builder()
    _, first, second = _halves(builder)
    computed = builder.convolution(second, 7)
    parts = {
        "swapped": [second, first, computed],
        "apart": [first, computed, second],
        "one": [second, computed],
    }[order]
    joined = builder.concatenation(parts)
    assert _copies(builder, builder.convolution(joined, 8)) == (1 if order == "one" else 2)
