from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.fuzz import fuzz
from tools.fuzzing.mutation import MOST_BYTES, mutate
from tools.fuzzing.targets import make_targets

NAMES = [target.name for target in make_targets(Path("unused"))]
SLOW = {"configuration", "sidecar", "web_config"}  # 3 ms an input: YAML


def test_mutation_is_the_same_for_the_same_seed_and_bounded():
    corpus = [b"{}", b"x" * 70_000]
    first, second = random.Random(3), random.Random(3)
    made = [mutate(first, corpus) for _ in range(300)]
    assert made == [mutate(second, corpus) for _ in range(300)]
    assert len(set(made)) > 150
    assert max(map(len, made)) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_no_damaged_input_does_more_than_be_refused(name, tmp_path):
    found = fuzz(name, 40 if name in SLOW else 250, 0, tmp_path)
    assert found.faults == []
    assert found.inputs
    assert not list(tmp_path.iterdir())


def test_a_reader_that_fails_is_found_with_the_input(monkeypatch, tmp_path):
    from tools.fuzzing import targets

    def feed(content: bytes) -> None:
        if b"!" in content:
            raise ZeroDivisionError
        int(content)

    broken = targets.Target("broken", (b"12", b"3!4"), feed, errors=(ValueError,))
    monkeypatch.setattr(targets, "make_targets", lambda folder: [broken])
    found = fuzz("broken", 50, 0, tmp_path)
    assert len(found.faults) == 1, "each place is told of once"
    assert "ZeroDivisionError" in found.faults[0]
    assert found.refused
    assert b"!" in (tmp_path / "broken-0").read_bytes()
