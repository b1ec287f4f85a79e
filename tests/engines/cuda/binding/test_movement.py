"""A Move's kernel puts every element where the reference does, and touches nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgeq.engines.cuda.binding.movement import choices
from edgeq.engines.cuda.program.nodes import Axis, Move, Value
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.harness import DENSE, PLACEMENTS, check_node

ORIN = Target(87)
RANDOM = np.random.default_rng(5)


def dense(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def axes(shape: Sequence[int], sizes: Sequence[int], starts: Sequence[int], steps: Sequence[int]
         ) -> tuple[Axis, ...]:  # fmt: skip
    parts = zip(sizes, starts, steps, shape, dense(shape), strict=True)
    return tuple(Axis(*part) for part in parts)


def check(
    move: Move,
    x: Sequence[int],
    y: Sequence[int],
    *placements: str,
    datatype: str = "int8",
) -> set[str]:
    """Run it with x and y placed so; return the names of what was offered."""
    count = math.prod(x)
    array = RANDOM.integers(-128, 128, count).astype(datatype).reshape(x)
    values = [Value("x", tuple(x), datatype), Value("y", tuple(y), datatype)]  # type: ignore[arg-type]
    names: set[str] = set()
    for pair in placements or ("dense dense",):
        before, after = pair.split()
        where = {0: PLACEMENTS[before], 1: PLACEMENTS[after]}
        names.update(check_node(choices, move, values, {0: array}, ORIN, placements=where))
    return names


def part(x: Sequence[int], y: Sequence[int], offset: int) -> Move:
    """Return x put into y, from an element of it on."""
    shape = [0] * len(x)
    return Move(0, 1, axes(x, x, shape, [1] * len(x)), tuple(dense(y)), offset)


@pytest.mark.parametrize("channels", [16, 12, 5])
def test_a_part_of_a_concatenation(channels: int) -> None:
    x, y = (2, 3, 5, channels), (2, 3, 5, channels + 19)
    for offset in (0, 16, 3):
        check(part(x, y, offset), x, y, "dense dense", "pitch16 pitch16", "slice4 pitch4")


def test_a_part_of_a_concatenation_of_rows() -> None:
    x, y = (2, 3, 5, 8), (2, 7, 5, 8)
    check(part(x, y, 2 * 5 * 8), x, y, "dense dense", "pitch16 pitch4", "slice_odd dense")


@pytest.mark.parametrize("placement", ["dense pitch16", "pitch16 dense", "slice_odd slice4"])
@pytest.mark.parametrize("mirror", ["", "reflect", "symmetric"])
def test_padding(mirror: str, placement: str) -> None:
    x, y = (2, 4, 5, 3), (2, 7, 8, 3)
    padded = axes(x, y, [0, -1, -2, 0], [1] * 4)
    move = Move(0, 1, padded, tuple(dense(y)), fill=-77, mirror=mirror)  # type: ignore[arg-type]
    check(move, x, y, placement)


@pytest.mark.parametrize("mirror", ["", "reflect", "symmetric"])
def test_padding_of_the_innermost_dimension(mirror: str) -> None:
    x, y = (1, 3, 5), (1, 4, 8)
    padded = axes(x, y, [0, 0, -2], [1] * 3)
    move = Move(0, 1, padded, tuple(dense(y)), fill=9, mirror=mirror)  # type: ignore[arg-type]
    names = check(move, x, y, "dense dense", "pitch4 slice4")
    assert names == {"move x4 gathered"}


def test_a_padded_batch_is_filled_where_x_has_no_images() -> None:
    x, y = (1, 2, 3, 4), (3, 2, 3, 4)
    move = Move(0, 1, axes(x, y, [-1, 0, 0, 0], [1] * 4), tuple(dense(y)), fill=3)
    check(move, x, y, "dense dense", "pitch16 dense")


def test_a_box_that_lies_outside_of_x_is_filled() -> None:
    x, y = (1, 2, 3, 4), (1, 1, 3, 4)
    move = Move(0, 1, axes(x, y, [0, 2, 0, 0], [1] * 4), tuple(dense(y)), fill=3)
    check(move, x, y)


@pytest.mark.parametrize("order", [(0, 3, 1, 2), (0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("datatype", ["int8", "float32", "int32"])
def test_transposition(order: tuple[int, ...], datatype: str) -> None:
    x = (2, 3, 5, 8)
    y = tuple(x[d] for d in order)
    own = axes(x, x, [0] * 4, [1] * 4)
    move = Move(0, 1, tuple(own[d] for d in order), tuple(dense(y)))
    check(move, x, y, "dense dense", "pitch16 pitch4", "slice_odd dense", datatype=datatype)


def test_slices_with_steps_to_either_side() -> None:
    x, y = (2, 6, 7, 8), (2, 3, 3, 4)
    move = Move(0, 1, axes(x, y, [0, 0, 5, 4], [1, 2, -2, 1]), tuple(dense(y)))
    check(move, x, y, "dense dense", "pitch16 dense", "slice4 pitch4")
    channels = Move(0, 1, axes(x, y, [0, 1, 1, 7], [1, 1, 2, -2]), tuple(dense(y)))
    check(channels, x, y, "dense dense", "pitch16 pitch4")


def test_space_to_depth_and_back() -> None:
    space, depth = (1, 4, 6, 3), (1, 2, 3, 12)
    s, d = dense(space), dense(depth)
    inner = [(2, s[1], 6), (2, s[2], 3), (3, s[3], 1)]  # size, stride in space, in depth
    outer = [(2, 2 * s[1], d[1]), (3, 2 * s[2], d[2])]
    loops = [outer[0], outer[1], *inner]
    forth = Move(0, 1, tuple(Axis(n, 0, 1, n, a) for n, a, _ in loops), tuple(b for *_, b in loops))
    back = Move(
        0, 1, tuple(Axis(n, 0, 1, n, b) for n, _, b in loops), tuple(a for _, a, _ in loops)
    )
    for pair in ("dense dense", "pitch4 pitch16"):
        check(forth, space, depth, pair)
        check(back, depth, space, pair)


def test_rows_that_no_word_fills_are_written_with_their_padding() -> None:
    x = (1, 4, 6, 3)
    assert check(part(x, x, 0), x, x, "dense pitch4", "slice_odd pitch16") == {"move x4 gathered"}
    assert check(part(x, x, 0), x, x, "pitch4 slice4") == {"move x1"}


def test_tiles_repeat() -> None:
    x, y = (1, 3, 4), (2, 3, 2, 4)
    loops = (Axis(2), Axis(3, 0, 1, 3, 4), Axis(2), Axis(4, 0, 1, 4, 1))
    assert check(Move(0, 1, loops, tuple(dense(y))), x, y) == {"move x4"}


def test_one_element() -> None:
    check(Move(0, 1, (Axis(1),), (1,)), (1,), (1,))
    check(Move(0, 1, (), ()), (), ())


def test_a_dense_run_is_one_loop_of_wide_accesses() -> None:
    x = (2, 3, 4, 8)
    assert "move x16" in check(part(x, x, 0), x, x)


def test_reading_rows_as_another_shape_needs_no_dense_view() -> None:
    x, y = (2, 3, 5), (2, 15)
    move = Move(0, 1, axes(x, x, [0] * 3, [1] * 3), (15, 5, 1))
    check(move, x, y, "pitch4 dense", "pitch16 pitch4")


@pytest.mark.parametrize(
    "move",
    [
        Move(0, 1, (Axis(8, 0, 1, 8, 1),), (1,)),  # eight of a row of five
        Move(0, 1, (Axis(3, 0, 1, 3, 4),), (1,)),  # steps that are no row
        Move(0, 1, (Axis(4, 3, 1, 8, 1),), (1,)),  # from a row into the next
        Move(0, 1, (Axis(12, -1, 1, 10, 1),), (1,)),  # padding across rows
    ],
)
def test_a_walk_that_has_no_strides_in_a_padded_view_is_refused(move: Move) -> None:
    with pytest.raises(EngineError):
        check(move, (2, 5), (12,), "pitch4 dense")
    assert PLACEMENTS["dense"] is DENSE
