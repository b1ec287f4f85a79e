from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.samples.reservoir import Reservoir, SampleRow, StoreOptions


def _offer(index: Reservoir, identity: str, size: int = 10) -> bool:
    if not index.draw(size) or index.has(identity):
        return False
    if index.reserve(identity, size) is None:
        return False
    index.release(identity)
    index.insert(SampleRow(identity, size, float(identity), "captured"))
    return True


def test_every_request_has_the_same_chance_to_stay() -> None:
    kept, stream, places, runs = np.zeros(60), 60, 12, 600
    for seed in range(runs):
        index = Reservoir(StoreOptions(maximum=places), seed=seed)
        for number in range(stream):
            _offer(index, str(number))
        kept[[int(row.id) for row in index.rows()]] += 1
    expected = runs * places / stream
    deviation = np.sqrt(expected * (1 - places / stream))
    assert kept.sum() == runs * places
    assert np.abs(kept - expected).max() < 4.5 * deviation


def test_the_same_seed_keeps_the_same_samples() -> None:
    def run(seed: int) -> list[str]:
        index = Reservoir(StoreOptions(maximum=5), seed=seed)
        for number in range(200):
            _offer(index, str(number))
        return [row.id for row in index.rows()]

    assert run(3) == run(3)
    assert run(3) != run(4)


@given(
    st.lists(st.tuples(st.sampled_from("oapr"), st.integers(0, 30), st.integers(1, 60))),
    st.integers(0, 6),
    st.integers(0, 150),
)
def test_the_bounds_hold_after_every_step(
    steps: list[tuple[str, int, int]], maximum: int, max_bytes: int
) -> None:
    index = Reservoir(StoreOptions(maximum, max_bytes), seed=0)
    for action, number, size in steps:
        row = index.get(str(number))
        if action == "o":
            _offer(index, str(number), size)
        elif action == "a" and row is None and index.reserve(str(number), size) is not None:
            index.release(str(number))
            index.insert(SampleRow(str(number), size, float(number), "added"))
        elif action == "p" and row is not None and row.origin == "captured":
            index.promote(row)
        elif action == "r":
            index.thin(0)
        rows = index.rows()
        assert len(rows) == len(index) <= maximum
        assert sum(row.bytes for row in rows) == index.bytes <= max_bytes
        assert sum(row.origin == "captured" for row in rows) == index.captured


def test_an_added_sample_is_never_evicted() -> None:
    index = Reservoir(StoreOptions(maximum=2), seed=0)
    for number in range(2):
        index.insert(SampleRow(str(number), 1, 0.0, "added"))
    assert index.reserve("new", 1) is None
    assert not any(_offer(index, str(number)) for number in range(10, 50))


def test_a_sample_that_can_never_fit_evicts_nobody() -> None:
    index = Reservoir(StoreOptions(maximum=9, max_bytes=100), seed=0)
    _offer(index, "1", 60)
    assert index.reserve("2", 101) is None
    assert len(index) == 1


def test_a_reservation_counts_until_it_is_released() -> None:
    index = Reservoir(StoreOptions(maximum=1), seed=0)
    assert index.reserve("1", 10) == []
    assert index.has("1")
    assert index.reserve("2", 10) is None
    index.release("1")
    assert index.reserve("2", 10) == []
