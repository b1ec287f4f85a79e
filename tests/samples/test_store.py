from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import files
from edgeq.errors import SampleError
from edgeq.samples.decode import load_folder
from edgeq.samples.store import (
    COUNTER,
    PAUSE_S,
    SampleStore,
    StoreOptions,
    is_held_out,
    sample_id,
)
from edgeq.tflite.runtime import TensorSpec

SPEC = TensorSpec("x", (1, 4), np.dtype(np.float32))


def _inputs(number: float) -> dict[str, Any]:
    return {"x": np.full((1, 4), number, np.float32)}


def _npz_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.npz"))


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    return SampleStore(tmp_path / "samples", StoreOptions(maximum=4), seed=0)


# ---- identity


def test_the_id_does_not_depend_on_order_memory_layout_or_byte_order() -> None:
    a, b = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(2)
    same = {"b": b, "a": np.asfortranarray(a).astype(">f4")}
    assert sample_id({"a": a, "b": b}) == sample_id(same)


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.arange(4, dtype=np.float32)},
        {"a": np.arange(4, dtype=np.float64)},
        {"a": np.arange(4, dtype=np.float32).reshape(2, 2)},
        {"a": np.arange(1, 5, dtype=np.float32)},
        {"a": np.arange(4, dtype=np.float32), "b": np.zeros(0)},
    ],
)
def test_the_id_depends_on_names_types_shapes_and_values(other: dict[str, Any]) -> None:
    assert sample_id({"a": np.arange(4, dtype=np.float32)}) != sample_id(other)


def test_the_id_of_a_known_sample_never_changes() -> None:
    known = "1ab3151a513c9d85eb777addc4e5a4b0f35d094fffe72a163ffd0b8ebed5d00b"
    assert sample_id({"x": np.arange(4, dtype=np.float32)}) == known


@settings(max_examples=50)
@given(st.integers(0, 2**64), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_ratio_only_adds_held_out_samples(number: int, one: float, two: float) -> None:
    low, high = sorted((one, two))
    if is_held_out(str(number), low):
        assert is_held_out(str(number), high)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
def test_the_held_out_split_is_stable_and_near_its_ratio(seed: int, ratio: float) -> None:
    values = np.random.default_rng(seed).normal(size=(1500, 2)).astype(np.float32)
    ids = [sample_id({"x": row}) for row in values]
    split = [is_held_out(id, ratio) for id in ids]
    assert split == [is_held_out(id, ratio) for id in ids]
    assert abs(np.mean(split) - ratio) <= 6 * np.sqrt(ratio * (1 - ratio) / len(ids))


# ---- what is kept


def test_offered_samples_are_stored_until_the_store_is_full(store: SampleStore) -> None:
    assert [store.offer(_inputs(i)) for i in range(4)] == [True] * 4
    for number in range(4, 200):
        store.offer(_inputs(number))
        assert len(_npz_files(store.directory)) == len(store) == 4
    assert store.offered == 200
    assert max(sample.inputs["x"][0, 0] for sample in store) > 4


def test_the_same_request_is_stored_once(store: SampleStore) -> None:
    assert store.offer(_inputs(1))
    assert not store.offer(_inputs(1))
    assert len(store) == 1


def test_the_bound_in_bytes_holds_on_disk(tmp_path: Path) -> None:
    store = SampleStore(tmp_path, StoreOptions(maximum=100, max_bytes=2000), seed=0)
    for number in range(60):
        store.offer(_inputs(number))
        on_disk = sum(path.stat().st_size for path in _npz_files(tmp_path))
        assert on_disk == store.bytes <= 2000
    assert len(store) > 3


def test_an_added_sample_evicts_a_captured_one(store: SampleStore) -> None:
    for number in range(4):
        store.offer(_inputs(number))
    assert store.add(_inputs(100))
    assert [row.origin for row in store.rows()].count("captured") == 3
    for number in range(200, 300):
        store.offer(_inputs(number))
    assert "added" in [row.origin for row in store.rows()]


def test_adding_twice_says_that_it_is_there_already(store: SampleStore) -> None:
    assert store.add(_inputs(1))
    assert not store.add(_inputs(1))


def test_a_captured_sample_that_a_person_adds_is_kept(store: SampleStore) -> None:
    store.offer(_inputs(1))
    assert store.add(_inputs(1))
    assert [row.origin for row in store.rows()] == ["added"]
    assert [path.name[:6] for path in _npz_files(store.directory)] == ["added-"]


def test_a_store_full_of_added_samples_says_so(store: SampleStore) -> None:
    for number in range(4):
        store.add(_inputs(number))
    with pytest.raises(SampleError, match=r"holds 4 samples.*no room"):
        store.add(_inputs(5))
    assert not store.offer(_inputs(6))


def test_prune_removes_captured_samples_only(store: SampleStore) -> None:
    store.add(_inputs(0))
    store.offer(_inputs(1))
    store.offer(_inputs(2))
    assert store.prune() == 2
    assert [sample.inputs["x"][0, 0] for sample in store] == [0]
    assert store.offered == 0


def test_erase_removes_added_samples_too_and_leaves_room(store: SampleStore) -> None:
    store.add(_inputs(0))
    store.offer(_inputs(1))
    assert store.erase() == 2
    assert (len(store), store.bytes, store.offered) == (0, 0, 0)
    assert not list(store.directory.glob("*.npz"))
    assert store.add(_inputs(0))


def test_recent_gives_the_newest_first(tmp_path: Path) -> None:
    store = SampleStore(tmp_path, clock=iter(range(100)).__next__)
    for number in range(5):
        store.offer(_inputs(number))
    assert [s.inputs["x"][0, 0] for s in store.recent(2)] == [4, 3]
    assert store.recent(0) == []
    assert len(store.recent(99)) == 5


def test_input_names_may_be_anything(store: SampleStore) -> None:
    inputs = {name: np.ones((1, 2), np.float32) for name in ("file", "a/b:0", "../x", "")}
    store.add(inputs)
    assert next(iter(store)).inputs.keys() == inputs.keys()


# ---- what survives


def test_a_new_store_finds_what_the_old_one_kept(store: SampleStore) -> None:
    store.add(_inputs(1))
    for number in range(2, 50):
        store.offer(_inputs(number))
    store.flush()
    again = SampleStore(store.directory, store.options)
    assert {row.file_name for row in again.rows()} == {row.file_name for row in store.rows()}
    assert (again.offered, again.bytes) == (48, store.bytes)


def test_the_count_of_requests_is_written_every_few_seconds(tmp_path: Path) -> None:
    now = [0.0]
    store = SampleStore(tmp_path, clock=lambda: now[0])
    store.offer(_inputs(1))
    assert not (tmp_path / COUNTER).exists()
    now[0] = 6
    store.offer(_inputs(2))
    counts = {"offered": 2, "current": "before", "strata": {"before": 2}}
    assert json.loads((tmp_path / COUNTER).read_text()) == counts


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"offered": null}', b'{"offered": -5}'])
def test_a_damaged_count_starts_from_what_is_there(tmp_path: Path, content: bytes) -> None:
    SampleStore(tmp_path).offer(_inputs(1))
    (tmp_path / COUNTER).write_bytes(content)
    assert SampleStore(tmp_path).offered == 1


def test_lowered_bounds_are_met_at_once(store: SampleStore) -> None:
    for number in range(3):
        store.offer(_inputs(number))
    store.add(_inputs(9))
    smaller = SampleStore(store.directory, StoreOptions(maximum=2))
    assert len(smaller) == len(_npz_files(store.directory)) == 2
    assert "added" in [row.origin for row in smaller.rows()]


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _another(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.ones(3))


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_torn, _empty, _another, _flipped])
def test_a_damaged_file_is_removed_when_met(store: SampleStore, damage: Any) -> None:
    for number in range(3):
        store.add(_inputs(number))
    damage(_npz_files(store.directory)[1])
    assert len(list(store)) == len(store) == len(_npz_files(store.directory)) == 2


def test_a_file_that_someone_removed_is_skipped(store: SampleStore) -> None:
    store.add(_inputs(1))
    store.add(_inputs(2))
    _npz_files(store.directory)[0].unlink()
    assert len(list(store)) == len(store) == 1


def test_leftovers_of_a_crash_are_swept_and_strange_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{files.TEMPORARY_PREFIX}1-ab-captured.npz").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f"added-{'0' * 64}.npz").mkdir()
    store = SampleStore(tmp_path)
    assert len(store) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"added-{'0' * 64}.npz", "notes.txt"]


def test_a_promotion_cut_by_a_crash_leaves_one_sample(store: SampleStore) -> None:
    store.offer(_inputs(1))
    captured = _npz_files(store.directory)[0]
    (store.directory / captured.name.replace("captured", "added")).write_bytes(
        captured.read_bytes()
    )
    again = SampleStore(store.directory)
    assert [row.origin for row in again.rows()] == ["added"]
    assert len(_npz_files(store.directory)) == 1


def test_a_full_disk_is_a_sample_error_and_frees_the_place(
    store: SampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_atomic", full)
        with pytest.raises(SampleError, match="No space left"):
            store.add(_inputs(1))
    assert (len(store), store.bytes) == (0, 0)
    assert store.add(_inputs(1))


def test_a_sample_that_the_disk_refuses_takes_no_other_s_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SampleStore(tmp_path, StoreOptions(maximum=3))
    for value in range(3):
        store.offer({"x": np.full((1, 2), value, np.float32)})
    kept = sorted(path.name for path in tmp_path.glob("captured-*"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", refuse_with(errno.EIO))
        for value in range(3, 9):
            with pytest.raises(SampleError, match="Input/output error"):
                store.add({"x": np.full((1, 2), value, np.float32)})
    assert sorted(path.name for path in tmp_path.glob("captured-*")) == kept
    assert sorted(row.file_name for row in store.rows()) == kept


def test_after_a_refusal_no_request_is_considered_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SampleStore(tmp_path)
    now = [1000.0]
    monkeypatch.setattr("edgeq.samples.store.time.monotonic", lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", refuse_with(errno.ENOSPC))
        with pytest.raises(SampleError):
            store.offer({"x": np.zeros((1, 2), np.float32)})
        assert not store.offer({"x": np.ones((1, 2), np.float32)})
    now[0] += PAUSE_S
    assert store.offer({"x": np.ones((1, 2), np.float32)})


def refuse_with(number: int) -> Callable[..., None]:
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_many_threads_keep_index_and_disk_equal(store: SampleStore) -> None:
    def work(start: int) -> None:
        for number in range(start, start + 40):
            store.offer(_inputs(number))
            if number % 10 == 0:
                with contextlib.suppress(SampleError):  # all four places may be taken just now
                    store.add(_inputs(number % 20))
            list(store)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.file_name for row in store.rows()} == {p.name for p in _npz_files(store.directory)}
    assert len(store) == 4


def test_a_build_can_read_the_folder(store: SampleStore) -> None:
    store.add(_inputs(1))
    store.offer(_inputs(2))
    loaded = {sample.id: sample.inputs["x"] for sample in load_folder(store.directory, [SPEC])}
    assert loaded.keys() == {row.id for row in store.rows()}


KILLED = """
import sys, numpy as np
from pathlib import Path
from edgeq.samples.store import SampleStore, StoreOptions
store = SampleStore(Path(sys.argv[1]), StoreOptions(maximum=8))
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.offer({"x": np.full((1, 4), number, np.float32)})
    if number % 50 == 0: store.prune()
"""


def test_a_kill_at_any_moment_leaves_a_readable_store(tmp_path: Path) -> None:
    for delay in (0.0, 0.02, 0.05):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, os.fspath(tmp_path)], stdout=subprocess.PIPE
        )
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            threading.Event().wait(delay)
            child.kill()
        store = SampleStore(tmp_path, StoreOptions(maximum=8))
        before = len(store)
        assert len(list(store)) == before <= 8
        assert not list(tmp_path.glob(f"{files.TEMPORARY_PREFIX}*"))
