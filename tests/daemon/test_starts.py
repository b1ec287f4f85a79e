"""Deaths in a row bring safe mode; a clean stop or a long run ends the count; no clock is asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.daemon.starts import (
    DAY_S,
    HUNG_KEPT,
    NOTE_BYTES,
    TRIES,
    SafeModeOptions,
    StartNote,
    Starts,
)

OPTIONS = SafeModeOptions(unclean_starts=3, within_s=600.0, quiet_s=1800.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(tmp_path: Path, clock: Clock) -> Callable[..., Starts]:
    """A daemon that starts and lives for a while; whoever gets it decides how it ends."""

    def start(lasts_s: float = 1.0, options: SafeModeOptions = OPTIONS) -> Starts:
        made = Starts(tmp_path / "starts.json", options, clock)
        made.begin()
        clock.now += lasts_s
        made.look(clock.now)
        return made

    return start


def test_the_third_death_in_a_row_brings_safe_mode(run) -> None:
    assert [run().safe_mode is not None for _ in range(4)] == [False, False, False, True]
    assert run().allowed == "cpu"


def test_a_clean_stop_ends_the_count(run) -> None:
    run(), run(), run().stop()
    assert [run().safe_mode for _ in range(3)] == [None] * 3


def test_a_run_that_lasts_ends_the_count_even_if_it_dies_then(run) -> None:
    run(), run(), run(lasts_s=601.0)
    assert [run().safe_mode for _ in range(2)] == [None] * 2
    assert run().safe_mode is not None  # that death, and two after it


def test_without_a_limit_there_is_no_safe_mode(run) -> None:
    options = SafeModeOptions(unclean_starts=0)
    assert all(run(options=options).safe_mode is None for _ in range(9))


def test_what_dies_in_safe_mode_is_allowed_less_and_less(run) -> None:
    for _ in range(3):
        run()
    allowed = [run().allowed for _ in range(3 * TRIES)]
    assert allowed == ["cpu"] * TRIES + ["float"] * TRIES + ["none"] * TRIES


def test_safe_mode_is_over_after_a_quiet_time(run, clock) -> None:
    for _ in range(3):
        run()
    starts = run()
    assert not starts.look(clock.now)
    assert starts.safe_mode.as_status()["engines"] == "on the CPU"
    clock.now += OPTIONS.quiet_s
    assert starts.look(clock.now)
    starts.leave(is_asked_for=False)
    assert starts.allowed == "all"


def test_one_death_after_it_was_over_brings_it_back_for_twice_as_long(run, clock) -> None:
    for _ in range(3):
        run()
    for quiet_s in (1800.0, 3600.0, 7200.0):
        starts = run(lasts_s=0.0)
        assert starts.safe_mode is not None
        assert starts.safe_mode.ends - clock.now == quiet_s
        starts.leave(is_asked_for=False)
    for _ in range(20):
        starts = run(lasts_s=0.0)
        starts.leave(is_asked_for=False)
    assert run(lasts_s=0.0).safe_mode.ends - clock.now == DAY_S


def test_a_day_of_health_forgets_how_often_it_was_over(run, clock) -> None:
    for _ in range(3):
        run()
    starts = run()
    starts.leave(is_asked_for=False)
    for _ in range(3):
        clock.now += DAY_S / 2
        starts.look(clock.now)
    for _ in range(3):
        run()
    assert run(lasts_s=0.0).safe_mode.ends - clock.now == OPTIONS.quiet_s


def test_whoever_asks_for_its_end_gets_a_fresh_count(run) -> None:
    for _ in range(3):
        run()
    run().leave(is_asked_for=True)
    assert [run().safe_mode for _ in range(2)] == [None] * 2


def test_engines_that_hung_are_remembered_until_a_person_wants_them(run) -> None:
    starts = run()
    starts.note_hung("face", 2, "cpu-int8")
    starts.note_hung("face", 2, "cpu-int8")
    starts.note_hung("gate", 1, "cuda-int8")
    starts.stop()
    later = run()
    assert later.hung("face", 2).times == 2
    assert later.hung("face", 1) is None
    later.forget_hung("face")
    assert run().hung("face", 2) is None
    assert run().hung("gate", 1).engine == "cuda-int8"


def test_a_run_leaves_word_of_its_end_for_the_next_one_only(run) -> None:
    run().note_end("it hung")
    assert [run().last_words for _ in range(2)] == ["it hung", ""]


def test_the_note_has_one_length_however_much_is_in_it() -> None:
    note = StartNote()
    for number in range(40):
        note = note.after_hang("m" * 200, number, "cpu-int8")
    assert len(note.hung) == HUNG_KEPT
    assert len(note.to_json()) == len(StartNote().to_json()) == NOTE_BYTES
    assert StartNote.from_json(note.to_json()).hung[-1] == note.hung[-1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * NOTE_BYTES, b'{"hung": 3}'])
def test_a_torn_note_counts_as_one_death(run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "starts.json").write_bytes(content)
    run(), run()
    assert run().safe_mode is not None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_takes_no_writes_is_told_and_no_reason_not_to_start(
    run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    starts = run()
    assert os.strerror(number) in starts.problem
    assert starts.safe_mode is None


def test_a_full_disk_takes_the_note_where_it_is_there(run, monkeypatch) -> None:
    run(), run()

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgeq.files.write_atomic", full)
    assert run().problem == ""
    assert run().safe_mode is not None
