"""Names tell every tensor apart and stay what they were wherever they can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeq.tflite.names import unique

NAMES = st.lists(st.sampled_from(["", "x", "y", "x#1", "x#2", "#0", "#1", "x#1#"]), max_size=12)


@given(NAMES)
def test_no_two_are_the_same(names: list[str]) -> None:
    result = unique(names)
    assert len(set(result)) == len(result) == len(names)
    assert "" not in result


@given(NAMES)
def test_the_first_of_each_keeps_its_name(names: list[str]) -> None:
    for name, given_name in dict(
        zip(reversed(names), reversed(unique(names)), strict=True)
    ).items():
        assert given_name == name or not name


def test_an_empty_or_repeated_name_gets_its_position() -> None:
    assert unique(["", "x", "x", "y", ""]) == ["#0", "x", "x#2", "y", "#4"]


def test_a_name_that_looks_like_a_suffix_keeps_it() -> None:
    assert unique(["x", "x", "x#1"]) == ["x", "x#1#", "x#1"]
