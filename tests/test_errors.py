"""The tree in the docstring is the tree of classes, and every error carries its parts."""

from __future__ import annotations

import inspect
import re

import pytest

from edgeq import errors
from edgeq.errors import DropError, EdgeqError, UnavailableError


def _drawn() -> dict[str, str | None]:
    """Return class -> parent as the docstring draws them; four columns are one level."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        match = re.match(r"^([│├└─ ]*)(\w+Error)\b", line)
        assert match, f"a line of the tree that names no class: {line!r}"
        depth, name = len(match[1]), match[2]
        while path and path[-1][0] >= depth:
            path.pop()
        parents[name] = path[-1][1] if path else None
        path.append((depth, name))
    return parents


def _real() -> dict[str, str | None]:
    members = inspect.getmembers(errors, inspect.isclass)
    classes = [c for _, c in members if c.__module__ == errors.__name__]
    return {c.__name__: None if c is EdgeqError else c.__mro__[1].__name__ for c in classes}


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn, real = _drawn(), _real()
    assert set(drawn) == set(real)
    assert drawn == real


def test_a_message_is_the_text_and_the_hint_travels_beside_it() -> None:
    error = EdgeqError("thing, actual, expected", hint="Do this.")
    assert str(error) == error.message == "thing, actual, expected"
    assert error.hint == "Do this."


@pytest.mark.parametrize("name", [name for name in _real() if name != "DropError"])
def test_every_error_is_raised_with_a_message_alone(name: str) -> None:
    error = getattr(errors, name)("what")
    assert isinstance(error, EdgeqError)
    assert error.hint == ""


def test_a_refused_drop_names_its_stage_and_a_busy_queue_when_to_come_back() -> None:
    assert DropError("no", stage="digest").stage == "digest"
    assert UnavailableError("full", retry_after_s=3).retry_after_s == 3
