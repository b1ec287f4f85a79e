from __future__ import annotations

from pathlib import Path

import pytest

from tests.run_folder import VARIABLE, made_once


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))


def test_what_is_there_is_not_made_again():
    asked = []
    for _ in range(2):
        assert list(made_once("word", lambda f: asked.append((f / "it").write_text("x"))).iterdir())
    assert len(asked) == 1


def test_what_could_not_be_made_is_made_anew():
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        made_once("word", fail)
    assert list(made_once("word", lambda folder: None).iterdir()) == []
