"""The store keeps what was captured under each condition, through restarts and crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import SampleError
from edgeq.samples.decode import load_folder
from edgeq.samples.reservoir import MAX_STRATA
from edgeq.samples.store import COUNTER, SampleStore, StoreOptions
from edgeq.tflite.runtime import TensorSpec

SPEC = TensorSpec("x", (1, 4), np.dtype(np.float32))
DAY_S = 86_400.0


class Clock:
    """Seconds since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> SampleStore:
    return SampleStore(tmp_path / "samples", StoreOptions(maximum=30), seed=0, clock=clock)


def offer(store: SampleStore, start: int, count: int) -> None:
    for number in range(start, start + count):
        store.offer({"x": np.full((1, 4), number, np.float32)})


def values(store: SampleStore, stratum: str) -> list[float]:
    ids = {row.id for row in store.rows() if row.stratum == stratum}
    return sorted(float(sample.inputs["x"][0, 0]) for sample in store if sample.id in ids)


def held(store: SampleStore) -> dict[str, int]:
    return {stratum.name: stratum.samples for stratum in store.strata()}


def test_a_drift_s_samples_are_of_a_stratum_named_by_its_beginning(store: SampleStore) -> None:
    offer(store, 0, 3)
    name = store.begin_stratum()
    offer(store, 10, 2)
    assert name == "20261118T110640Z"
    assert held(store) == {"before": 3, name: 2}
    assert values(store, name) == [10, 11]
    assert [(s.offered, s.is_current) for s in store.strata()] == [(3, False), (2, True)]


def test_two_drifts_within_a_second_are_two_strata(store: SampleStore) -> None:
    assert store.begin_stratum() != store.begin_stratum()


def test_strata_survive_a_restart_with_their_counts_and_the_current_one(
    store: SampleStore,
) -> None:
    offer(store, 0, 100)
    name = store.begin_stratum()
    offer(store, 1000, 50)
    store.flush()
    again = SampleStore(store.directory, store.options)
    assert again.strata() == store.strata()
    assert again.stratum == name
    assert again.offered == 150


@pytest.mark.parametrize("content", [b"", b"{", b'{"current": "../x"}', b'{"current": 7}', None])
def test_without_its_counts_a_store_goes_on_in_the_newest_stratum(
    store: SampleStore, content: bytes | None
) -> None:
    offer(store, 0, 5)
    name = store.begin_stratum()
    offer(store, 10, 5)
    if content is None:
        (store.directory / COUNTER).unlink()
    else:
        (store.directory / COUNTER).write_bytes(content)
    again = SampleStore(store.directory, store.options)
    assert again.stratum == name
    assert [(s.samples, s.offered) for s in again.strata()] == [(5, 5), (5, 5)]


def test_a_store_from_before_there_were_strata_opens_as_one(store: SampleStore) -> None:
    offer(store, 0, 50)
    (store.directory / COUNTER).write_text('{"offered": 50}')
    again = SampleStore(store.directory, store.options)
    assert [(s.name, s.samples, s.offered) for s in again.strata()] == [("before", 30, 50)]


def test_a_night_leaves_the_day_its_half_and_the_bounds_hold_on_disk(store: SampleStore) -> None:
    offer(store, 0, 500)
    night = store.begin_stratum()
    for number in range(1000, 1500):
        offer(store, number, 1)
        assert len(list(store.directory.glob("*.npz"))) == len(store) <= 30
    assert held(store) == {"before": 15, night: 15}
    assert max(values(store, "before")) < 500


def test_what_comes_back_goes_on_in_its_stratum(store: SampleStore) -> None:
    offer(store, 0, 2)
    cloud = store.begin_stratum()
    offer(store, 10, 2)
    store.go_on_with("before")
    offer(store, 20, 1)
    assert held(store) == {"before": 3, cloud: 2}


def test_the_oldest_drifts_become_one_on_disk_too(store: SampleStore, clock: Clock) -> None:
    offer(store, 0, 10)
    for drift in range(1, 2 * MAX_STRATA):
        clock.now += DAY_S
        store.begin_stratum()
        offer(store, 100 * drift, 20)
    assert len(store.strata()) == MAX_STRATA
    assert held(store)["before"] >= 30 // MAX_STRATA
    again = SampleStore(store.directory, store.options)
    assert held(again) == held(store)
    assert {row.file_name for row in again.rows()} == {
        path.name for path in store.directory.glob("*.npz")
    }


def test_a_disk_that_refuses_a_rename_keeps_the_samples_in_their_stratum(
    store: SampleStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for drift in range(MAX_STRATA):
        offer(store, 100 * drift, 2)
        clock.now += DAY_S
        if drift < MAX_STRATA - 1:
            store.begin_stratum()

    def refuse(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    before = Counter(row.stratum for row in store.rows())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(SampleError, match="Input/output error"):
            store.begin_stratum()
    on_disk = {path.name for path in store.directory.glob("*.npz")}
    assert len(list(store)) == len(on_disk) == before.total()


def test_prune_leaves_the_current_stratum_and_forgets_the_others(store: SampleStore) -> None:
    offer(store, 0, 5)
    name = store.begin_stratum()
    offer(store, 10, 5)
    assert store.prune() == 10
    assert [(s.name, s.samples, s.offered) for s in store.strata()] == [(name, 0, 0)]


def test_frames_that_came_while_a_drift_came_can_be_forgotten(
    store: SampleStore, clock: Clock
) -> None:
    offer(store, 0, 3)
    clock.now += 60
    offer(store, 10, 3)
    assert store.forget_since(clock.now) == 3
    assert len(list(store)) == 3


def test_an_added_sample_is_of_no_stratum_and_pushes_only_the_largest(store: SampleStore) -> None:
    offer(store, 0, 30)
    night = store.begin_stratum()
    offer(store, 100, 3)
    for number in range(5):
        store.add({"x": np.full((1, 4), -number, np.float32)})
    assert held(store) == {"before": 22, night: 3}
    store.add({"x": np.full((1, 4), 100, np.float32)})  # captured by night: a person's now
    assert held(store) == {"before": 22, night: 2}


def test_a_build_is_told_each_sample_s_stratum(store: SampleStore, tmp_path: Path) -> None:
    offer(store, 0, 1)
    night = store.begin_stratum()
    offer(store, 1, 1)
    store.add({"x": np.full((1, 4), 2, np.float32)})
    np.save(store.directory / "own.npy", np.full((1, 4), 3, np.float32))
    found = {
        float(sample.inputs["x"][0, 0]): sample.stratum
        for sample in load_folder(store.directory, [SPEC])
    }
    assert found == {0: "before", 1: night, 2: "added", 3: ""}


def test_what_an_eviction_and_a_merge_leave_is_what_is_counted(
    store: SampleStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that is evicted while its file gets another name leaves no file behind."""
    for drift in range(MAX_STRATA - 1):
        offer(store, 100 * drift, 4)
        clock.now += DAY_S
        store.begin_stratum()
    offer(store, 5000, 8)
    rename = Path.rename

    def evict_first(path: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        store.prune()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", evict_first)
    clock.now += DAY_S
    store.begin_stratum()
    assert list(store.directory.glob("*.npz")) == []
    assert json.loads((store.directory / COUNTER).read_text())["offered"] == 0
