"""A version that was just published is taken back for what it did, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.swap import Health, ProbationOptions, probation_verdict

COUNT = st.integers(0, 10_000)


def test_a_version_that_was_asked_nothing_may_stay() -> None:
    assert probation_verdict(Health(), ProbationOptions()) == ""
    assert probation_verdict(Health(), ProbationOptions(min_requests=0)) == ""


@pytest.mark.parametrize(
    ("health", "what"),
    [
        (Health(requests=100, errors=2), "2 of 100 requests failed in the engine"),
        (Health(requests=100, nonfinite=2), "2 of 100 requests gave NaN or infinity"),
        (Health(requests=1, errors=1), "1 of 1 requests failed in the engine"),
    ],
)
def test_too_many_failures_are_the_reason(health: Health, what: str) -> None:
    assert probation_verdict(health, ProbationOptions()) == f"{what}; probation allows 1.00%"


def test_the_allowed_share_may_fail() -> None:
    assert probation_verdict(Health(100, errors=1, nonfinite=1), ProbationOptions()) == ""
    assert probation_verdict(Health(100, errors=50), ProbationOptions(max_error_ratio=0.5)) == ""
    assert probation_verdict(Health(100, errors=1), ProbationOptions(max_error_ratio=0.0))


def test_nothing_is_said_before_enough_requests() -> None:
    options = ProbationOptions(min_requests=10)
    assert probation_verdict(Health(9, errors=9), options) == ""
    assert probation_verdict(Health(10, errors=10), options)


@given(requests=COUNT, errors=COUNT, more=COUNT, ratio=st.floats(0, 1))
def test_more_failures_never_save_a_version(
    requests: int, errors: int, more: int, ratio: float
) -> None:
    options = ProbationOptions(max_error_ratio=ratio)
    if probation_verdict(Health(requests, errors), options):
        assert probation_verdict(Health(requests, errors + more), options)


@given(requests=COUNT, ratio=st.floats(0, 1))
def test_a_version_without_failures_always_stays(requests: int, ratio: float) -> None:
    assert probation_verdict(Health(requests), ProbationOptions(max_error_ratio=ratio)) == ""
