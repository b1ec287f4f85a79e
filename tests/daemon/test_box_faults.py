"""The box lacks memory, processes or disk: builds and drops are done later, none is lost."""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edgeq.cli import main
from edgeq.daemon import builder as building
from edgeq.daemon.builder import Builder, BuildJob, BuildLimits, BuildOutcome
from edgeq.daemon.drops import MOST_TRIES
from edgeq.daemon.taking import Taking
from edgeq.drift.state import DriftState
from edgeq.errors import RegistryError
from edgeq.intake import admit, child
from edgeq.intake.child import ProbeLimits, run_probe
from tests.daemon.conftest import House, fill, install, states


@pytest.fixture
def ended() -> queue.Queue[BuildOutcome]:
    return queue.Queue()


@pytest.fixture
def taking(house: House) -> Taking:
    """What the loop takes candidates with; this thread is all of its threads."""
    return Taking(house.context, house.deployer, lambda function: function(), house.scanner.forget)


def take(house: House, taking: Taking) -> None:
    for candidate in house.scanner.scan().settled:
        taking.take(candidate)


def put(house: House, source: Path) -> None:
    (house.context.config.models_dir / "digits.tflite").write_bytes(source.read_bytes())


def refuse(number: int) -> object:
    def raise_it(*arguments: object, **named: object) -> None:
        raise OSError(number, os.strerror(number))

    return raise_it


def count(house: House, kind: str) -> float | None:
    registry = house.context.metrics.registry
    return registry.get_sample_value("edgeq_faults_total", {"kind": kind})


def make_due(house: House) -> None:
    """Let what waits be due."""
    for retries in (house.context.drops_again, house.context.builds_again):
        retries._due = dict.fromkeys(retries._due, 0.0)


# ---- the build's child


def job(digits: Path) -> BuildJob:
    arguments = (str(digits / "digits.tflite"), "--samples", str(digits), "--backend", "cpu")
    return BuildJob("digits", "0" * 64, "samples", arguments)


def build(tmp_path: Path, ended: queue.Queue[BuildOutcome], digits: Path, **limits: int) -> Builder:
    builder = Builder(tmp_path / "building", lambda *_: None, ended.put)
    builder.limits = BuildLimits(**limits)
    builder.request(job(digits))
    return builder


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EAGAIN, "fork_failed"),
        (errno.ENOMEM, "out_of_memory"),
        (errno.EMFILE, "out_of_descriptors"),
    ],
)
def test_a_build_that_cannot_be_started_says_what_the_box_lacks(
    tmp_path, ended, digits, monkeypatch, number, kind
):
    monkeypatch.setattr(building.subprocess, "Popen", refuse(number))
    builder = build(tmp_path, ended, digits)
    outcome = ended.get(timeout=30)
    builder.close()
    assert (outcome.outcome, outcome.fault) == ("failed", kind)
    assert "could not be started" in outcome.result["error"]


def test_a_build_that_cannot_have_a_thread_ends_as_failed(tmp_path, ended, digits, monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(building.threading.Thread, "start", start)
        builder = build(tmp_path, ended, digits)
    assert ended.get(timeout=30).fault == "fork_failed"
    assert not builder.is_pending("digits")
    builder.close()


def test_a_build_over_its_memory_is_the_box_s_fault(tmp_path, ended, digits):
    builder = build(tmp_path, ended, digits, memory_bytes=48 << 20)
    outcome = ended.get(timeout=120)
    builder.close()
    assert (outcome.outcome, outcome.fault) == ("failed", "out_of_memory"), outcome.result


def test_a_build_that_the_kernel_kills_is_the_box_s_fault(tmp_path, ended, digits, monkeypatch):
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(building, "be_ended_first", kill)
    builder = build(tmp_path, ended, digits)
    outcome = ended.get(timeout=60)
    builder.close()
    assert (outcome.outcome, outcome.fault) == ("failed", "out_of_memory")


@pytest.mark.parametrize(
    ("error", "fault"),
    [(OSError(errno.ENOSPC, "full"), "disk_full"), (MemoryError(), "out_of_memory")],
)
def test_a_build_s_child_names_the_fault_of_the_box_in_its_answer(
    monkeypatch, capsys, digits, error, fault
):
    def fail(path: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)
    code = main(["build", str(digits / "digits.tflite"), "--out", "x", "--json",
                 "--samples", str(digits)])  # fmt: skip
    assert code == 1
    assert json.loads(capsys.readouterr().out)["fault"] == fault


def test_the_kernel_is_to_end_a_build_before_the_daemon():
    with subprocess.Popen(["sleep", "30"]) as process:
        building.be_ended_first(process.pid)
        score = Path(f"/proc/{process.pid}/oom_score_adj").read_text()
        process.kill()
    assert int(score) == 800


# ---- what becomes of the build


def test_a_build_that_the_box_failed_is_tried_again_later(house, digits, images, taking):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    done = BuildOutcome(
        BuildJob("digits", deployment.model_sha256, "samples", ()), "failed",
        house.context.paths.building / "x", {"error": "no memory"}, 1.0, "out_of_memory",
    )  # fmt: skip
    deployment.building = done.job
    house.deployer.build_ended(done)
    assert count(house, "out_of_memory") == 1
    assert "tried again in 60 s" in deployment.reason
    assert deployment.state == "serving"
    house.deployer.consider_build(deployment, "samples")
    assert deployment.building is None  # not at once
    make_due(house)
    taking.look()
    assert deployment.building is not None
    assert house.builder.is_pending("digits")


def test_each_wait_is_twice_as_long_up_to_a_limit(house):
    retries = house.context.builds_again
    waits = [retries.postpone("digits") for _ in range(12)]
    assert waits[:3] == [60, 120, 240]
    assert waits[-1] == waits[-2] == 6 * 3600
    retries.forget("digits")
    assert retries.postpone("digits") == 60


# ---- drops


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_a_drop_whose_probe_cannot_be_started_is_taken_again(
    house, digits, taking, monkeypatch, number
):
    put(house, digits / "digits.tflite")
    with monkeypatch.context() as patch:
        patch.setattr(admit, "run_probe", refuse(number))
        take(house, taking)
    assert house.context.quarantine.entries() == []
    assert house.deployer.deployments == {}
    make_due(house)
    taking.look()
    take(house, taking)
    assert house.deployer.deployments["digits"].engine == "float"


def test_a_probe_that_the_kernel_kills_again_and_again_is_the_model_s_fault(
    house, digits, taking, monkeypatch
):
    def killed(path: Path, limits: ProbeLimits) -> None:
        monkeypatch.setattr(child, "be_ended_first", lambda pid: os.kill(pid, signal.SIGKILL))
        run_probe(path, limits)

    monkeypatch.setattr(admit, "run_probe", killed)
    put(house, digits / "digits.tflite")
    for number in range(MOST_TRIES):
        take(house, taking)
        assert house.context.quarantine.entries() == [], f"after {number + 1}"
        make_due(house)
        taking.look()
    take(house, taking)
    (entry,) = house.context.quarantine.entries()
    assert "may be out of memory" in entry.error
    assert count(house, "out_of_memory") == MOST_TRIES + 1


def test_a_drop_that_the_disk_refuses_is_not_quarantined(house, digits, taking, monkeypatch):
    put(house, digits / "digits.tflite")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(errno.ENOSPC))
        take(house, taking)
    assert house.context.quarantine.entries() == []
    assert count(house, "disk_full") == 1
    make_due(house)
    taking.look()
    take(house, taking)
    assert house.deployer.deployments["digits"].engine == "float"
    assert states(house) == ["committed"]


def test_a_drop_that_fails_for_what_nobody_knows_is_raised(house, digits, taking, monkeypatch):
    def fail(*arguments: object) -> None:
        raise ValueError("a bug")

    put(house, digits / "digits.tflite")
    monkeypatch.setattr(admit, "run_probe", fail)
    with pytest.raises(ValueError, match="a bug"):
        take(house, taking)


# ---- events and what a failing registry must not undo


def test_events_wait_for_the_registry_and_keep_their_order_and_time(house, monkeypatch):
    def refuse_it(*arguments: object, **named: object) -> None:
        raise RegistryError("the disk is full")

    before = time.time()
    with monkeypatch.context() as patch:
        patch.setattr(house.context.registry, "record", refuse_it)
        for number in range(3):
            house.context.events.record("face", "test", f"event {number}", number, figure=number)
    house.context.events.write_kept()
    events = [event for event in house.context.registry.events() if event.kind == "test"]
    assert [event.message for event in events] == ["event 2", "event 1", "event 0"]
    assert [event.fields["figure"] for event in events] == [2, 1, 0]
    assert all(before <= event.time <= time.time() for event in events)


def test_a_bad_version_does_not_serve_on_because_the_disk_is_full(
    house, digits, monkeypatch, built
):
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    assert deployment.version == "2"

    def refuse_it(*arguments: object, **named: object) -> None:
        raise RegistryError("full") from OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(house.context.registry, "rollback", refuse_it)
        house.deployer.publisher.rollback(deployment, "it answers NaN", is_bad=True)
        assert deployment.version == "1"
    live = house.context.registry.live("digits")
    assert live is not None
    assert live.version == 2
    house.deployer.publisher.record_late(deployment)
    live = house.context.registry.live("digits")
    assert live is not None
    assert live.version == 1
    assert deployment.unrecorded is None


def full_registry(*arguments: object, **named: object) -> None:
    raise RegistryError("full") from OSError(errno.ENOSPC, "full")


def test_a_drift_that_begins_on_a_full_disk_begins_once(house, digits, images, monkeypatch):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images[:4])
    recalibrations = house.deployer.recalibrations
    drifting = DriftState(True, 100.0, "darker", ())
    with monkeypatch.context() as patch:
        patch.setattr(house.context.registry, "note_drift", full_registry)
        recalibrations.look(deployment, drifting)
        stratum, since = deployment.store.stratum, deployment.drift_since
        recalibrations.look(deployment, drifting)
        assert (deployment.store.stratum, deployment.drift_since) == (stratum, since)
    assert house.context.registry.drift_note("digits") is None
    recalibrations.look(deployment, drifting)
    note = house.context.registry.drift_note("digits")
    assert note is not None
    assert note["episode"]["stratum"] == stratum


def test_an_older_version_serves_where_the_live_one_is_damaged_and_the_disk_read_only(
    house, digits, monkeypatch, built
):
    house.drop(digits / "digits.tflite")
    install(house, built)
    (house.context.paths.bundle("digits", 2) / "int8.tflite").write_bytes(b"damaged")
    house.deployer.close()
    with monkeypatch.context() as patch:
        patch.setattr(house.context.registry, "rollback", full_registry)
        house.deployer.restore()
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.state) == ("1", "serving")
    house.deployer.check_probation(deployment)  # the next second, when the disk takes writes
    live = house.context.registry.live("digits")
    assert live is not None
    assert live.version == 1
