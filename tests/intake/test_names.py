from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.intake.names import is_ignored, is_model_name, safe_name


@pytest.mark.parametrize("name", ["face", "face.v1", "A-b_C.3", "x" * 128, "-", "_"])
def test_ordinary_names_are_model_names(name: str) -> None:
    assert is_model_name(name)
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".face", "a b", "a/b", "gesicht-ä", "x" * 129, "a\n"]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_model_name(name)


@given(st.text(max_size=300))
def test_any_name_can_be_made_safe(name: str) -> None:
    assert is_model_name(safe_name(name))


def test_different_names_stay_different_when_made_safe() -> None:
    assert len({safe_name(name) for name in ("a b", "a/b", "a_b", "a\udcffb")}) == 4


@pytest.mark.parametrize("name", [".hidden.tflite", "a.tflite.part", "a.tmp", "a.swp", "a.tflite~"])
def test_unfinished_and_hidden_files_are_ignored(name: str) -> None:
    assert is_ignored(name)


def test_finished_files_are_not_ignored() -> None:
    assert not is_ignored("a.part.tflite")
