from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.samples.naming import new_stratum
from edgeq.samples.reservoir import MAX_STRATA, Reservoir, SampleRow, StoreOptions


def _offer(index: Reservoir, identity: str, size: int = 10) -> bool:
    if not index.draw(size) or index.has(identity):
        return False
    if index.reserve(identity, size, "captured") is None:
        return False
    index.release(identity)
    row = SampleRow(identity, size, float(identity), "captured", stratum=index.current)
    index.insert(row)
    return True


def _add(index: Reservoir, identity: str, size: int) -> None:
    if index.reserve(identity, size, "added") is not None:
        index.release(identity)
        index.insert(SampleRow(identity, size, float(identity), "added"))


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
        elif (
            action == "a" and row is None and index.reserve(str(number), size, "added") is not None
        ):
            index.release(str(number))
            index.insert(SampleRow(str(number), size, float(number), "added"))
        elif action == "p" and row is not None and row.origin == "captured":
            index.promote(row)
        elif action == "r":
            index.clear()
        rows = index.rows()
        assert len(rows) == len(index) <= maximum
        assert sum(row.bytes for row in rows) == index.bytes <= max_bytes
        assert sum(row.origin == "captured" for row in rows) == index.captured


def test_an_added_sample_is_never_evicted() -> None:
    index = Reservoir(StoreOptions(maximum=2), seed=0)
    for number in range(2):
        index.insert(SampleRow(str(number), 1, 0.0, "added"))
    assert index.reserve("new", 1, "added") is None
    assert not any(_offer(index, str(number)) for number in range(10, 50))


def test_a_sample_that_can_never_fit_evicts_nobody() -> None:
    index = Reservoir(StoreOptions(maximum=9, max_bytes=100), seed=0)
    _offer(index, "1", 60)
    assert index.reserve("2", 101, "captured") is None
    assert len(index) == 1


def test_a_reservation_counts_until_it_is_released() -> None:
    index = Reservoir(StoreOptions(maximum=1), seed=0)
    assert index.reserve("1", 10, "captured") == []
    assert index.has("1")
    assert index.reserve("2", 10, "captured") is None
    index.release("1")
    assert index.reserve("2", 10, "captured") == []


# ---- strata


def _fill(index: Reservoir, start: int, count: int, size: int = 10) -> None:
    for number in range(start, start + count):
        _offer(index, str(number), size)


def _counts(index: Reservoir) -> dict[str, int]:
    return {name: index.count(name) for name in index.strata}


def _shares(index: Reservoir) -> defaultdict[str, float]:
    """What each stratum takes of the places or of the bytes, whichever is more."""
    places, sizes = Counter[str](), Counter[str]()
    for row in index.rows():
        if row.origin == "captured":
            places[row.stratum] += 1
            sizes[row.stratum] += row.bytes
    of = index._options
    return defaultdict(
        float, {n: max(places[n] / of.maximum, sizes[n] / of.max_bytes) for n in places}
    )


streams = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), min_size=1, max_size=12)


@given(streams, st.integers(1, 40), st.integers(0, 5), st.integers(10, 400))
def test_no_stratum_loses_what_is_within_its_share_to_another(
    lengths: list[tuple[int, int]], maximum: int, added: int, max_bytes: int
) -> None:
    index = Reservoir(StoreOptions(maximum, max_bytes), seed=0)
    for number in range(min(added, maximum)):
        _add(index, str(10**6 + number), 1)
    for episode, (length, size) in enumerate(lengths[:6]):
        name = f"2026112{episode}T000000Z"
        index.begin(name)
        for number in range(100 * episode, 100 * episode + length):
            before = _shares(index)
            _offer(index, str(number), size)
            after = _shares(index)
            for other in before.keys() - {name}:
                assert after[other] == before[other] or before[other] >= after[name]
            assert len(index) <= maximum
            assert index.bytes <= max_bytes


def test_strata_come_to_equal_shares_however_long_each_lasted() -> None:
    index = Reservoir(StoreOptions(maximum=30), seed=0)
    _fill(index, 0, 5000)
    for episode in (1, 2):
        index.begin(f"2026112{episode}T000000Z")
        _fill(index, 10_000 * episode, 300)
    assert _counts(index) == {"before": 10, "20261121T000000Z": 10, "20261122T000000Z": 10}


def test_a_short_stratum_keeps_every_sample_and_leaves_the_others_its_rest() -> None:
    index = Reservoir(StoreOptions(maximum=30), seed=0)
    _fill(index, 0, 100)
    index.begin("20261121T000000Z")
    _fill(index, 1000, 4)
    index.begin("20261122T000000Z")
    _fill(index, 2000, 1000)
    assert _counts(index) == {"before": 13, "20261121T000000Z": 4, "20261122T000000Z": 13}


def test_within_a_stratum_every_request_has_the_same_chance_to_stay() -> None:
    kept, stream, runs = np.zeros(60), 60, 600
    for seed in range(runs):
        index = Reservoir(StoreOptions(maximum=24), seed=seed)
        _fill(index, 1000, 100)
        index.begin("20261121T000000Z")
        _fill(index, 0, stream)
        mine = [int(row.id) for row in index.rows() if row.stratum == index.current]
        assert len(mine) == 12
        kept[mine] += 1
    deviation = np.sqrt(runs * 12 / stream * (1 - 12 / stream))
    assert np.abs(kept - runs * 12 / stream).max() < 4.5 * deviation


def test_a_long_stream_of_large_samples_does_not_push_the_small_ones_out() -> None:
    index = Reservoir(StoreOptions(maximum=100, max_bytes=1000), seed=0)
    _fill(index, 0, 500, size=10)
    index.begin("20261121T000000Z")
    _fill(index, 1000, 500, size=240)
    counts = _counts(index)
    assert counts["before"] >= 50  # half of the bytes
    assert counts["20261121T000000Z"] == 2
    assert index.bytes <= 1000


@given(st.integers(1, 40))
def test_there_are_never_too_many_strata_and_the_first_one_is_never_merged(episodes: int) -> None:
    index = Reservoir(StoreOptions(maximum=64), seed=0)
    _fill(index, 0, 200)
    for episode in range(episodes):
        index.begin(new_stratum(86_400.0 * episode, index.strata))
        _fill(index, 1000 * (episode + 1), 30)
    assert len(index.strata) <= MAX_STRATA
    counts = _counts(index)
    assert counts["before"] >= 64 // MAX_STRATA
    assert sum(counts.values()) == len(index) == 64
    assert all(int(row.id) < 200 for row in index.rows() if row.stratum == "before")


def test_the_two_oldest_drifts_become_one_stratum() -> None:
    index = Reservoir(StoreOptions(maximum=64), seed=0)
    _fill(index, 0, 1)
    names = [f"202611{day:02}T000000Z" for day in range(1, MAX_STRATA + 1)]
    for number, name in enumerate(names, 1):
        changed = index.begin(name)
        _fill(index, number, 1)
    assert [(row.stratum, moved.stratum) for row, moved in changed] == [(names[1], names[0])]
    assert index.strata == ["before", names[0], *names[2:]]
    assert index.count(names[0]) == index.offered[names[0]] == 2


def test_what_was_captured_while_a_drift_came_is_forgotten_in_its_stratum_alone() -> None:
    index = Reservoir(StoreOptions(maximum=10), seed=0)
    _fill(index, 0, 4)
    assert [row.id for row in index.forget_since(2.0)] == ["2", "3"]
    index.begin("20261121T000000Z")
    _fill(index, 5, 1)
    assert [row.id for row in index.forget_since(0.0)] == ["5"]
    assert [row.id for row in index.rows()] == ["0", "1"]


def test_a_share_is_full_where_the_stratum_grows_no_more() -> None:
    index = Reservoir(StoreOptions(maximum=10), seed=0)
    _fill(index, 0, 20)
    assert index.is_share_full
    index.begin("20261121T000000Z")
    full = []
    for number in range(100, 110):
        _offer(index, str(number))
        full.append(index.is_share_full)
    assert full == [False] * 4 + [True] * 6
    assert index.count(index.current) == 5
