"""Loops over several views visit the elements in their order, wide accesses stay aligned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.engines.cuda.binding.nest import Nest, broadcast, extents, is_aligned, together
from edgeq.engines.cuda.binding.places import Places
from edgeq.engines.cuda.launch import Pointer, View
from edgeq.errors import EngineError

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def view(shape: Sequence[int], padding: int = 0, offset: int = 0) -> View:
    shape = tuple(shape)
    return View.of(Pointer("arena", offset), shape, (shape[-1] if shape else 1) + padding)


def visited(sizes: Sequence[int], strides: Sequence[int]) -> list[int]:
    turns = itertools.product(*map(range, sizes))
    return [sum(i * s for i, s in zip(turn, strides, strict=True)) for turn in turns]


@given(SHAPES, st.integers(0, 3), st.integers(0, 3))
def test_loops_visit_all_elements_in_order(shape: tuple[int, ...], one: int, other: int) -> None:
    views = view(shape, one), view(shape, other)
    nest = together(*map(extents, views))
    for own, strides in zip(views, nest.strides, strict=True):
        assert visited(nest.sizes, strides) == visited(own.shape, own.strides)


@given(SHAPES, st.integers(0, 3), st.data())
def test_a_broadcast_visits_what_numpy_does(
    shape: tuple[int, ...], padding: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, len(shape)))
    operand = tuple(data.draw(st.sampled_from([1, size])) for size in shape[len(shape) - kept :])
    own = view(operand, padding)
    nest = together(broadcast(own, shape), extents(view(shape)))
    places = np.array(visited(own.shape, own.strides)).reshape(operand)
    expected = np.broadcast_to(places, shape).reshape(-1).tolist()
    assert visited(nest.sizes, nest.strides[0]) == expected


def test_dense_views_are_one_loop() -> None:
    assert together(extents(view((2, 3, 4))), extents(view((6, 4)))) == Nest((24,), ((1,), (1,)))


def test_rows_that_are_cut_differently_have_no_loops() -> None:
    with pytest.raises(EngineError, match="no common loops"):
        together(extents(view((2, 3), 1)), extents(view((3, 2), 1)))


def test_more_than_32_bits_of_offsets_are_refused() -> None:
    nest = together(extents(View.of(Pointer("arena"), (70_000, 40_000), 40_001)))
    with pytest.raises(EngineError, match="2\\^31"):
        nest.constants("X")


@pytest.mark.parametrize(
    ("own", "width", "fits"),
    [
        (view((3, 8), 8), 8, True),
        (view((3, 8), 4), 8, False),
        (view((3, 8), 4), 4, True),
        (view((3, 8), 8, offset=4), 8, False),
        (view((3, 8), 8, offset=4), 4, True),
        (view((3, 6), 2), 4, False),
    ],
)
def test_an_access_is_aligned_in_every_row(own: View, width: int, fits: bool) -> None:
    assert is_aligned(together(extents(own)), [own], width) is fits


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_a_place_in_a_dense_value_is_one_in_its_view(
    shape: list[int], padding: int, data: st.DataObject
) -> None:
    own = view(shape, padding)
    place = data.draw(st.integers(0, int(np.prod(shape)) - 1))
    index = np.unravel_index(place, shape)
    expected = sum(int(i) * s for i, s in zip(index, own.strides, strict=True))
    assert Places.of(own).offset(place) == expected
