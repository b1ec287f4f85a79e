"""Whatever step on the disk is refused once, nothing is left half done; the next try does it."""

from __future__ import annotations

import json

import pytest

from tests.faults.failing_disk import SCENARIOS
from tests.faults.test_crash_points import run

EVERY = 61  # of 732 refusals; all of them: --every 1
LEAST_STEPS = 25  # fewer: the steps are not seen any more


@pytest.mark.slow
def test_a_refused_step_is_told_and_done_at_the_next_try(built):
    done = run("tests.faults.failing_disk", str(built), "--every", str(EVERY))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert set(found) == set(SCENARIOS)
    for name, figures in found.items():
        assert figures["failures"] == {}, name
        assert figures["steps"] >= LEAST_STEPS, name
