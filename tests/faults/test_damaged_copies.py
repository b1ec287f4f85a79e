"""`python -m tests.faults.damaged_copies` in short: the repo's own model, a few dozen drops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.faults.copies import KINDS, WHOLE, damaged_copies
from tests.faults.damaged_copies import held_out, run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def model(digits: Path) -> Path:
    return digits / "digits.tflite"


@pytest.fixture(scope="module")
def images(digits: Path) -> np.ndarray:
    return held_out(digits / "digits_samples.npz", 8)


def test_the_copies_are_of_each_kind_in_its_share_and_the_same_every_time(model: Path):
    content = model.read_bytes()
    copies = damaged_copies(content, WHOLE, seed=0)
    assert [sum(copy.kind == kind for copy in copies) for kind, _, _ in KINDS] == [
        120, 300, 150, 120
    ]  # fmt: skip
    assert all(copy.content != content for copy in copies)
    assert copies == damaged_copies(content, WHOLE, seed=0)


@pytest.mark.parametrize(("protection", "count"), [("none", 4), ("digest", 6), ("signature", 6)])
def test_no_damaged_copy_is_served_and_every_request_is_answered(
    model: Path, images: np.ndarray, protection: str, count: int
):
    findings = run(model, images, count, 3, protection, measures_all=False)
    assert findings.is_sound, findings
    assert findings.served == []
    assert findings.drops == count + len(range(0, count, 3))
    assert findings.versions == ["1"]
    assert findings.requests > 0
