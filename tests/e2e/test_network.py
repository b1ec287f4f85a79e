"""A real daemon under what tools throw at it: short forms of `python -m tools.…`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.check_openapi import check
from tools.fuzz_network import LIMITS, fuzz
from tools.fuzzing.box import Box, box


@pytest.fixture(scope="module")
def served() -> Iterator[Box]:
    with box(server=LIMITS) as made:
        yield made


def test_what_is_served_is_what_the_description_says(served: Box) -> None:
    outcome = check(served, examples=1, seed=0, phases="fuzzing")
    assert outcome.kinds == [], outcome.text
    assert outcome.operations > 40
    assert outcome.cases > 40
    assert served.is_alive


def test_random_and_damaged_requests_find_nothing_that_is_not_defined(served: Box) -> None:
    found = fuzz(served, 300, seed=0)
    assert found.faults == []
    assert sum(found.requests.values()) == 300
    for protocol, usual in (("http", {"200", "400", "404"}), ("grpc", {"OK", "INVALID_ARGUMENT"})):
        assert usual <= found.statuses[protocol].keys()
