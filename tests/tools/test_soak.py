from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.soaking.clients import Client, Said
from tools.soaking.journal import MOST_KEPT, Journal
from tools.soaking.judge import WARM_S, figures_of, judge_held, judge_versions, lives
from tools.soaking.material import Material
from tools.soaking.monitor import Held, Monitor
from tools.soaking.plan import CLASSIFIERS, ENDS, ROUNDS_A_LIFE, STEPS, ends_of, plan
from tools.soaking.reference import Reference
from tools.soaking.report import text_of

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SHORT = ("--seconds", "1", "--pace", "0.01", "--brief")  # its first round, that is
LONG = ("--seconds", "120")


def soak(folder: Path, *options: str, limit_s: float) -> dict[str, Any]:
    """Run the program in a process of its own, and return its figures."""
    told = folder / "soak.json"
    command = [sys.executable, "-m", "tools.soak", *options, "--json", str(told)]
    # Not measured for coverage: that would make it slower, and what it kills tells nothing.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEQ_", "COV"))}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=limit_s, check=False
    )
    assert told.exists(), done.stderr[-3000:]
    figures: dict[str, Any] = json.loads(told.read_text())
    assert (done.returncode, figures["violations"]) == (0, []), done.stdout[-5000:]
    return figures


@pytest.mark.e2e
@pytest.mark.slow
def test_no_invariant_is_violated_while_everything_happens_once(tmp_path: Path):
    figures = soak(tmp_path, *SHORT, "--seed", "1", limit_s=200)
    has_disk = figures["disk_pressure"].startswith("a disk of")
    ends = ends_of(is_brief=True, has_disk=has_disk)
    kinds = {kind for kind in (*STEPS, *ends) if has_disk or "full disk" not in kind}
    assert set(figures["actions"]) == kinds
    assert figures["versions_checked"] >= 5
    assert figures["answers"]["200 by float"] > 100


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.skipif("SOAK" not in os.environ, reason="takes two minutes: set SOAK=1 to run it")
def test_two_minutes_violate_no_invariant(tmp_path: Path):
    figures = soak(tmp_path, *LONG, "--seed", os.environ["SOAK"], limit_s=290)
    assert figures["seconds"] >= 120
    assert figures["answers"]["200 by cpu-int8"] > 1000


# ---- the plan


def test_the_same_seed_gives_the_same_steps_and_another_one_others():
    first, again, other = (list(itertools.islice(plan(seed), 300)) for seed in (1, 1, 2))
    assert first == again
    assert [step.kind for step in first] != [step.kind for step in other]
    assert first[7].random().random() == again[7].random().random()


def test_the_first_round_does_everything_and_most_rounds_end_no_daemon():
    first = len(STEPS) + len(ENDS)
    steps = list(itertools.islice(plan(3), first + (ROUNDS_A_LIFE - 1) * len(STEPS)))
    assert Counter(s.kind for s in steps[:first]) == Counter((*STEPS, *ENDS))
    assert not {s.kind for s in steps[first:]} & set(ENDS)


# ---- what is dropped and answered


def test_every_damaged_model_is_another_than_every_good_one():
    material, step = Material(), next(plan(1))
    good = [material.base("digits"), material.variant("digits", 1), material.variant("digits", 2)]
    for kind in ("truncated drop", "random drop", "flipped drop", "empty drop", "wrong digest"):
        assert material.damaged("digits", kind, step.random()) not in good
    assert len(material.good) == 3


class Answers:
    """A way to no daemon: what it was given to say, in turn."""

    grace_s = 0.0

    def __init__(self, *said: Said) -> None:
        self._said = list(said)

    def ask(self, model: str, kind: str, index: int) -> Said:
        if len(self._said) > 1:
            return self._said.pop(0)
        time.sleep(0.01)
        return self._said[0]

    def close(self) -> None:
        """Nothing is open."""


def client_of(journal: Journal, reference: Reference, *said: Said) -> Client:
    way = Answers(*said)
    return Client("test", lambda: way, CLASSIFIERS[:1], reference, journal)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def reference(journal: Journal, tmp_path: Path) -> Reference:
    """One version of one model, whose answer to every frame is 1."""
    made = Reference(tmp_path, Material(), journal)
    right = np.ones((len(made.frames["digits"]["usual"]), 10), np.float32)
    made._known["digits", "1", "float"] = {"usual": right, "bright": right}
    return made


def run(client: Client, journal: Journal, answers: int) -> None:
    client.start()
    until = time.monotonic() + 20
    while sum(journal.answers.values()) < answers and time.monotonic() < until:
        time.sleep(0.005)
    client.stop()


def test_a_client_tells_a_wrong_answer_from_a_right_one(journal: Journal, reference: Reference):
    right = np.ones(10, np.float32)
    wrong = np.nextafter(right, 2).astype(np.float32)  # by the last bit
    said = [Said("200", "1", "float", values) for values in (right, wrong, right)]
    run(client_of(journal, reference, *said), journal, 3)
    assert journal.violated == {"a wrong answer": 1}
    assert journal.violations[0].evidence.startswith("('digits', '1', 'float') usual frame 1")


@pytest.mark.parametrize(
    ("said", "window", "violation"),
    [
        (Said("500"), "down", "answered 500"),
        (Said("503", may_retry=True), "", "503 while nothing was wrong"),
        (Said("503", may_retry=True), "overload", ""),
        (Said("503"), "overload", "503 without Retry-After"),
        (Said("404"), "unload digits", ""),
        (Said("404"), "unload letters", "answered 404"),
    ],
)
def test_a_refusal_is_allowed_only_where_it_was_brought_about(
    journal: Journal, reference: Reference, said: Said, window: str, violation: str
):
    journal.open(window)
    run(client_of(journal, reference, said), journal, 1)
    assert set(journal.violated) == ({violation} if violation else set())


def test_a_version_without_a_bundle_is_told_once(journal: Journal, reference: Reference):
    answer = Said("200", "7", "float", np.ones(10, np.float32))
    run(client_of(journal, reference, answer), journal, 3)
    assert journal.violated == {"an answer by a version without a bundle": 1}


# ---- what is judged


def test_a_window_allows_what_began_before_its_end(journal: Journal):
    before = time.monotonic()
    with journal.window("down"):
        assert journal.is_allowed("down", time.monotonic())
    assert journal.is_allowed("down", before)
    assert not journal.is_allowed("down", time.monotonic())
    assert journal.is_allowed("down", time.monotonic(), grace_s=5.0)


def test_a_crash_undoes_what_was_not_committed_before_it_and_nothing_else(journal: Journal):
    journal.open("full disk")
    now = time.time()
    assert journal.undid(now - 1, now + 1)
    assert not journal.undid(now - 100, now - 50)
    journal.close("full disk")
    assert not journal.undid(now + 100, now + 200)


def test_of_many_violations_the_first_are_kept_and_all_counted(journal: Journal):
    for _ in range(MOST_KEPT + 5):
        journal.violate("a wrong answer", "x" * 9999)
    assert (len(journal.violations), journal.violated["a wrong answer"]) == (200, 205)
    assert len(journal.violations[0].evidence) < 1000


class Seen:
    """A monitor that saw this, in one life unless said otherwise."""

    def __init__(self, *held: Held) -> None:
        self.held = list(held)


def held(at_s: float, rss_bytes: int = 100 * MIB, **changed: int) -> Held:
    base = {
        "life": 1,
        "descriptors": 30,
        "threads": 20,
        "disk_bytes": MIB,
        "children": 0,
        "metrics": 900,
    }
    return Held(at_s=at_s, rss_bytes=rss_bytes, **{**base, **changed})


def test_memory_that_grows_through_a_life_is_told_and_that_of_its_start_is_not(journal: Journal):
    steady = [held(at, 100 * MIB if at > WARM_S else 20 * MIB) for at in range(300)]
    judge_held(Seen(*steady), journal)  # type: ignore[arg-type]
    assert not journal.violated
    growing = [held(at, (100 + at) * MIB) for at in range(290)]
    judge_held(Seen(*growing), journal)  # type: ignore[arg-type]
    assert dict(journal.violated) == {"rss_bytes grow": 1}


def test_every_ceiling_is_held(journal: Journal):
    most = held(
        1, 900 * MIB, descriptors=900, threads=90, disk_bytes=900 * MIB, children=9, metrics=9999
    )
    judge_held(Seen(held(0), most), journal)  # type: ignore[arg-type]
    assert len(journal.violated) == 6
    figures = figures_of([held(0), most])
    assert figures["threads"] == {"start": 20, "max": 90, "end": 90}
    assert [len(life) for life in lives([held(0), held(1, life=2), held(2, life=2)])] == [1, 2]


@pytest.mark.parametrize(("state", "violated"), [("verified", True), ("committed", False)])
def test_what_serves_for_long_must_be_committed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, state: str, violated: bool
):
    model = {"live": {"version": "2"}, "versions": [{"version": "2", "state": state}]}
    monitor = Monitor(None, journal)  # type: ignore[arg-type]
    monitor._note({"events": [], "models": {"digits": model}})
    assert not journal.violated
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    monitor._note({"events": [], "models": {"digits": model}})
    assert bool(journal.violated) == violated


class Histories:
    """A box whose events these are."""

    def __init__(self, *kinds: tuple[float, str]) -> None:
        self._events = [{"time": at, "kind": kind} for at, kind in kinds]

    def history(self, _: str) -> dict[str, Any]:
        return {"events": self._events}


@pytest.mark.parametrize(
    ("event", "violated"), [("rolled_back", False), ("committed", True)]
)  # fmt: skip
def test_an_older_version_may_answer_after_a_rollback_alone(
    journal: Journal, reference: Reference, event: str, violated: bool
):
    client = client_of(journal, reference, Said("503"))
    client.seen = [(100.0, "digits", 4), (200.0, "digits", 5), (300.0, "digits", 4)]
    box = Histories((50.0, "accepted"), (250.0, event))
    judge_versions([client], box, journal)  # type: ignore[arg-type]
    assert bool(journal.violated) == violated


def test_the_report_shows_what_was_violated_with_its_evidence():
    told = {
        "seconds": 9.0, "seed": 1, "steps": 2, "requests": 3, "versions_checked": 1, "lives": 1,
        "disk_pressure": "none", "start_s_max": 1.0, "status_s_max": 0.1, "answers": {"200": 3},
        "actions": {}, "counts": {}, "events": {}, "left": {}, "faults": ["the disk was full"],
        "held": figures_of([held(0)]), "violated": {"a wrong answer": 2},
        "violations": [{"at_s": 1.5, "step": 1, "what": "a wrong answer", "evidence": "0 for 1"}],
    }  # fmt: skip
    text = text_of(told)
    assert "violations: 2\n  2 x a wrong answer" in text
    assert "1.5 s, step 1: a wrong answer: 0 for 1" in text
    assert "rss MiB" in text
