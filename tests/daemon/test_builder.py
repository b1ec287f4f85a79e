from __future__ import annotations

import queue
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.bundle import Bundle
from edgeq.daemon.builder import Builder, BuildJob, BuildOutcome

Ended = queue.Queue[BuildOutcome]


@pytest.fixture
def ended() -> Ended:
    return queue.Queue()


@pytest.fixture
def steps() -> list[str]:
    return []


@pytest.fixture
def builder(tmp_path: Path, ended: Ended, steps: list[str]) -> Iterator[Builder]:
    made = Builder(tmp_path / "building", lambda _, step: steps.append(step["stage"]), ended.put)
    yield made
    made.close()


@pytest.fixture
def job(digits: Path) -> Callable[..., BuildJob]:
    def make(name: str = "digits", model: Path = digits / "digits.tflite") -> BuildJob:
        arguments = (str(model), "--samples", str(digits), "--method", "max", "--name", name)
        return BuildJob(name, "0" * 64, "request", arguments)

    return make


def test_a_build_leaves_a_bundle_and_tells_its_stages(builder, ended, steps, job):
    builder.request(job())
    assert builder.is_pending("digits")
    outcome = ended.get(timeout=60)
    assert outcome.outcome == "succeeded", outcome.result
    assert Bundle.open(outcome.bundle).manifest.method == "max"
    assert {"read", "calibrate", "quantize", "verify", "bundle"} <= set(steps)
    assert "stages" in outcome.result


def test_a_build_that_fails_says_why(builder, ended, job, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"\0\0\0\0TFL3 and nothing else")
    builder.request(job(model=bad))
    outcome = ended.get(timeout=60)
    assert outcome.outcome == "failed"
    assert outcome.result["error"]
    assert outcome.result["hint"]


def test_a_build_that_takes_too_long_is_ended(builder, ended, job):
    builder.limits = replace(builder.limits, timeout_s=0.1)
    builder.request(job())
    outcome = ended.get(timeout=60)
    assert outcome.outcome == "failed"
    assert "longer than 0.1 s" in outcome.result["error"]


def test_a_build_that_needs_too_much_memory_fails_alone(builder, ended, job):
    builder.limits = replace(builder.limits, memory_bytes=48 << 20)
    builder.request(job())
    assert ended.get(timeout=60).outcome == "failed"


def test_the_newest_job_of_a_model_wins(builder, ended, job):
    first, second, third = job(), job(), job()
    for wanted in (first, second, third):
        builder.request(wanted)
    outcomes = [ended.get(timeout=60), ended.get(timeout=60)]
    assert [(o.job is first, o.outcome) for o in outcomes[:1]] == [(True, "cancelled")]
    assert (outcomes[1].job is third, outcomes[1].outcome) == (True, "succeeded")
    assert ended.empty()


def test_jobs_of_different_models_are_built_one_after_the_other(builder, ended, job):
    builder.request(job("a"))
    builder.request(job("b"))
    assert builder.is_pending("b")
    assert [ended.get(timeout=60).job.name for _ in range(2)] == ["a", "b"]
    assert not builder.is_pending("b")


def test_a_closed_builder_leaves_no_child_and_takes_no_job(builder, ended, job):
    builder.request(job())
    builder.close()
    assert ended.get(timeout=10).outcome == "cancelled"
    builder.request(job())
    assert ended.empty()


def test_a_closed_builder_leaves_no_half_a_build(builder, ended, steps, job, tmp_path):
    builder.request(job())
    deadline = time.monotonic() + 30
    while not steps and time.monotonic() < deadline:
        time.sleep(0.01)
    builder.close()
    assert ended.get(timeout=10).outcome == "cancelled"
    assert list((tmp_path / "building").iterdir()) == []


def test_what_the_last_run_left_unfinished_is_removed(tmp_path, ended):
    left = tmp_path / "building" / "left"
    left.mkdir(parents=True)
    Builder(tmp_path / "building", lambda *_: None, ended.put)
    assert not left.exists()


def test_a_build_that_does_nothing_is_ended_and_tried_again_later(builder, ended, job, monkeypatch):
    spawn = subprocess.Popen

    def stopped(*arguments, **options):
        process = spawn(*arguments, **options)
        process.send_signal(signal.SIGSTOP)
        return process

    monkeypatch.setattr(subprocess, "Popen", stopped)
    builder.limits = replace(builder.limits, stall_timeout_s=0.5)
    builder.request(job())
    outcome = ended.get(timeout=60)
    assert (outcome.outcome, outcome.fault) == ("failed", "child_hung")
    assert "did nothing for 0.5 s" in outcome.result["error"]
