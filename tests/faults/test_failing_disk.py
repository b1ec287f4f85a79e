"""Whatever step on the disk is refused once, nothing is left half done; the next try does it."""

from __future__ import annotations

import json

import pytest

from tests.faults.failing_disk import SCENARIOS
from tests.faults.test_crash_points import run

EVERY = 23  # of 732 refusals; all of them: --every 1
LEAST_STEPS = 25  # fewer: the steps are not seen any more


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_refused_step_is_told_and_done_at_the_next_try(scenario, built):
    done = run("tests.faults.failing_disk", scenario, str(built), "--every", str(EVERY))
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["failures"] == {}
    assert found["steps"] >= LEAST_STEPS
