"""A version that was just published is taken back for what it did, and for nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.swap import (
    Health,
    Latency,
    LatencyRecord,
    ProbationOptions,
    latency_verdict,
    probation_verdict,
)
from edgeq.swap.probation import RECORDED

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


def test_a_version_that_takes_much_longer_than_the_one_before_is_the_reason() -> None:
    verdict = latency_verdict(Latency(60, 0.008), Latency(80, 0.004), ProbationOptions())
    assert verdict == (
        "the median inference took 8 ms over 60 requests, 4 ms before over 80: "
        "2.00 times as long; probation allows 1.5"
    )


@pytest.mark.parametrize(
    ("new", "before"),
    [
        (Latency(60, 0.003), Latency(80, 0.002)),  # within the ratio
        (Latency(60, 0.002), Latency(80, 0.0001)),  # 20 times as long, and no 2 ms
        (Latency(19, 0.4), Latency(80, 0.002)),  # too few
        (Latency(60, 0.4), Latency(19, 0.002)),
        (Latency(60, 0.4), Latency()),
    ],
)
def test_a_version_may_be_a_little_slower_or_not_measured(new: Latency, before: Latency) -> None:
    assert latency_verdict(new, before, ProbationOptions()) == ""


def test_the_median_is_of_the_latest_requests() -> None:
    record = LatencyRecord()
    assert record.latency == Latency()
    for _ in range(RECORDED):
        record.add(1.0)
    record.add(9.0)
    assert record.latency == Latency(RECORDED, 1.0)
    for _ in range(RECORDED):
        record.add(2.0)
    assert record.latency == Latency(RECORDED, 2.0)


@given(st.lists(st.floats(1e-6, 1.0), min_size=50, max_size=80), st.floats(1.0, 10.0))
def test_a_version_as_quick_as_the_one_before_stays(seconds: list[float], ratio: float) -> None:
    record = LatencyRecord()
    for each in seconds:
        record.add(each)
    options = ProbationOptions(max_latency_ratio=ratio)
    assert latency_verdict(record.latency, record.latency, options) == ""
