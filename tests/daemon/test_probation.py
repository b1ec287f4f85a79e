"""A version on probation is compared with the one before it, and taken back for what differs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.daemon import probation, publisher
from edgeq.daemon.deployment import Deployment
from edgeq.daemon.loading import load_engine
from edgeq.daemon.status import status
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError, RegistryError
from edgeq.registry import Event
from edgeq.swap import shadow
from tests.daemon.conftest import House, fill, install, states

WAIT_S = 20.0
Images = list[dict[str, np.ndarray]]


class Changed(CpuEngine):
    """Proves itself; on duty it waits, or says something else."""

    is_on_duty = False
    wait_s = 0.0
    is_wrong = False
    is_broken = False

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = super().infer(inputs)
        if not Changed.is_on_duty:
            return outputs
        if Changed.is_broken:
            raise EngineError("the device is gone")
        time.sleep(Changed.wait_s)
        return {n: v[..., ::-1].copy() if Changed.is_wrong else v for n, v in outputs.items()}


Change = Callable[..., None]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Change]:
    """Let the next version that is loaded be a changed one; the others stay as they are."""

    def begin(
        *,
        wait_s: float = 0.0,
        is_wrong: bool = False,
        is_broken: bool = False,
        loader: Any = publisher,
    ) -> None:
        changed: list[Path] = []

        def load(bundle: Any, threads: int) -> Any:
            if changed and bundle.directory not in changed:
                return load_engine(bundle, threads)
            changed.append(bundle.directory)
            model = "int8.tflite" if bundle.has("int8.tflite") else "float.tflite"
            return Changed(bundle.read(model), bundle.manifest.engine, threads=threads)

        monkeypatch.setattr(Changed, "wait_s", wait_s)
        monkeypatch.setattr(Changed, "is_wrong", is_wrong)
        monkeypatch.setattr(Changed, "is_broken", is_broken)
        monkeypatch.setattr(loader, "load_engine", load)

    monkeypatch.setattr(shadow, "LEAST_GAP_S", 0.0)
    monkeypatch.setattr(shadow, "DUTY", 1.0)
    yield begin
    Changed.is_on_duty = False


def serve_int8(house: House, digits: Path, built: Path) -> Deployment:
    """Version 1 is the float model, version 2 its INT8 engine, on probation."""
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    assert (deployment.version, deployment.engine, deployment.state) == (
        "2",
        "cpu-int8",
        "probation",
    )
    return deployment


@pytest.fixture(autouse=True)
def _short_window(house: House) -> None:
    """A probation that is over at the first look; a verdict comes before that."""
    config = house.context.config
    probation = config.swap.probation.model_copy(update={"window_s": 0.01})
    swap = config.swap.model_copy(update={"probation": probation})
    house.context.config = config.model_copy(update={"swap": swap})


def pass_probation(house: House, deployment: Deployment) -> None:
    deadline = time.monotonic() + WAIT_S
    while deployment.probation is not None:
        assert time.monotonic() < deadline
        house.deployer.check_probation(deployment)
        time.sleep(0.02)


def compared(house: House, deployment: Deployment, images: Images, least: int = 25) -> Any:
    """Ask until so many answers were compared; return the report."""
    assert deployment.probation is not None
    assert deployment.probation.shadow is not None
    deadline = time.monotonic() + WAIT_S
    while (report := deployment.probation.shadow.report).compared < least:
        assert time.monotonic() < deadline, report
        house.ask(images[:10])
    return report


Rebuild = Callable[..., Deployment]


@pytest.fixture
def rebuilt(house: House, digits: Path, built: Path, images: Images, change: Change) -> Rebuild:
    """Serve version 2 as it should be, and then version 3, changed, on probation."""

    def rebuild(**how: Any) -> Deployment:
        deployment = serve_int8(house, digits, built)
        house.ask(images)
        pass_probation(house, deployment)
        change(**how)
        install(house, built)
        Changed.is_on_duty = True
        assert (deployment.version, deployment.state) == ("3", "probation")
        return deployment

    return rebuild


def test_a_version_that_agrees_and_is_as_quick_stays_and_says_so(
    house, digits, images, change, built
):
    deployment = serve_int8(house, digits, built)
    report = compared(house, deployment, images)
    assert report.disagreement < 0.1
    shown = status(house.context, [deployment], 0.0)["models"]["digits"]["probation"]
    assert (shown["version"], shown["before"], shown["is_same_model"]) == ("2", "1", True)
    assert shown["shadow"]["compared"] >= 25
    pass_probation(house, deployment)
    assert deployment.state == "serving"
    event = next(e for e in house.context.registry.events() if e.kind == "proven")
    assert "version 2 after version 1" in event.message
    assert "disagreement over" in event.message
    page = house.context.metrics.page().decode()
    assert 'edgeq_shadow_disagreement_ratio{model="digits"}' in page


def test_a_version_that_takes_too_long_is_taken_back(house, digits, images, rebuilt):
    deployment = rebuilt(wait_s=0.008)
    house.ask(images)
    house.deployer.check_probation(deployment)
    assert (deployment.version, deployment.state) == ("2", "serving")
    assert "version 3 after version 2: the median inference took" in deployment.reason
    assert deployment.reason.endswith("probation allows 1.5")
    assert states(house) == ["rolled_back", "committed", "retired"]


def test_a_version_that_disagrees_with_float_is_taken_back(house, digits, images, rebuilt):
    deployment = rebuilt(is_wrong=True)
    report = compared(house, deployment, images)
    assert report.judged > 0  # float was asked, for both are INT8
    house.deployer.check_probation(deployment)
    assert deployment.version == "2"
    assert "version 3 after version 2: output 'scores' disagrees by" in deployment.reason
    rolled_back = next(e for e in house.context.registry.events() if e.kind == "rolled_back")
    assert rolled_back.message == f"went back to version 2: {deployment.reason}"


def test_where_the_version_before_was_wrong_the_new_one_stays(house, digits, images, change, built):
    """As after a drift: the old ranges cut what the new ones hold."""
    deployment = serve_int8(house, digits, built)
    pass_probation(house, deployment)
    change(is_wrong=True, loader=probation)
    install(house, built)
    Changed.is_on_duty = True
    report = compared(house, deployment, images)
    assert report.judged > 0
    assert report.disagreement < 0.1
    house.deployer.check_probation(deployment)
    assert deployment.version == "3"


@pytest.mark.parametrize("sidecar", ["", "probation: {max_disagreement_ratio: 0.3}\n"])
def test_another_model_may_disagree_unless_its_owner_says_how_much(
    house, digits, images, change, sidecar
):
    deployment = house.drop(digits / "digits.tflite")
    change(is_wrong=True)
    house.sidecar(sidecar)
    house.drop(digits / "digits_v2.tflite")
    Changed.is_on_duty = True
    assert (deployment.version, deployment.state) == ("2", "probation")
    report = compared(house, deployment, images)
    assert report.disagreement > 0.5
    house.deployer.check_probation(deployment)
    assert deployment.version == ("1" if sidecar else "2")
    if sidecar:
        entry = house.context.quarantine.entries()[0]
        assert (entry.stage, entry.name) == ("probation", "digits")
        assert "probation allows 30.0%" in entry.error
    else:
        pass_probation(house, deployment)
        assert "disagreement over" in house.context.registry.events()[0].message


def test_what_failed_is_not_tried_again_not_even_after_a_restart(
    house, digits, images, change, built
):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    change(is_wrong=True)
    install(house, built)
    Changed.is_on_duty = True
    compared(house, deployment, images)
    house.deployer.check_probation(deployment)
    assert (deployment.version, deployment.engine) == ("1", "float")
    house.deployer.consider_build(deployment, "samples")
    assert not house.builder.is_pending("digits")
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    house.deployer.resume_builds()
    house.scanner.forget("digits")
    again = house.drop(digits / "digits.tflite")
    assert (again.version, again.state) == ("1", "serving")
    assert not house.builder.is_pending("digits")
    house.drop(digits / "digits_v2.tflite")
    assert house.builder.is_pending("digits")  # other bytes, another try


def test_a_dropped_model_that_fails_is_not_taken_again(house, digits, images, change):
    house.drop(digits / "digits.tflite")
    change(is_broken=True)
    deployment = house.drop(digits / "digits_v2.tflite")
    Changed.is_on_duty = True
    for image in images[:5]:
        future = deployment.slot.submit(image, timeout_s=5)
        assert isinstance(future.exception(timeout=5), EngineError)
    house.deployer.check_probation(deployment)
    assert deployment.version == "1"
    house.scanner.forget("digits")
    house.drop(digits / "digits_v2.tflite")
    assert deployment.version == "1"
    assert states(house) == ["rolled_back", "committed"]


def test_a_restart_goes_on_with_the_probation(house, digits, images, rebuilt):
    deployment = rebuilt(wait_s=0.008)
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.state) == ("3", "probation")
    assert deployment.probation.latency_before.requests == len(images)
    house.ask(images)
    house.deployer.check_probation(deployment)
    assert deployment.version == "2"  # compared with the times from before the restart
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    assert house.deployer.deployments["digits"].state == "serving"


def crash(house: House) -> None:
    """End as a killed process would: nothing is noted; only the threads are tidied up."""
    for deployment in house.deployer.deployments.values():
        if deployment.probation is not None and deployment.probation.shadow is not None:
            deployment.probation.shadow.close()
        deployment.slot.close()
    house.deployer.deployments.clear()
    house.deployer.restore()


def test_a_version_under_which_the_daemon_dies_three_times_is_left(house, digits, built):
    serve_int8(house, digits, built)
    for _ in range(2):
        crash(house)
        assert house.deployer.deployments["digits"].version == "2"
    crash(house)
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.engine, deployment.state) == ("1", "float", "serving")
    failed = house.context.registry.versions("digits")[0]
    assert (failed.state, failed.reason) == (
        "rolled_back",
        "the daemon died 3 times in the probation of version 2",
    )
    house.deployer.resume_builds()
    assert not house.builder.is_pending("digits")


def test_stops_are_no_deaths(house, digits, built):
    serve_int8(house, digits, built)
    for _ in range(4):
        house.deployer.close()
        house.deployer.deployments.clear()
        house.deployer.restore()
    assert house.deployer.deployments["digits"].version == "2"


def test_a_probation_that_ends_on_a_full_disk_is_over_once_there_is_room(
    house, digits, built, monkeypatch
):
    deployment, registry = serve_int8(house, digits, built), house.context.registry

    def refuse(_: str) -> None:
        raise RegistryError("the registry cannot be used: database or disk is full") from (
            sqlite3.OperationalError("database or disk is full")
        )

    with monkeypatch.context() as full:
        full.setattr(registry, "end_probation", refuse)
        pass_probation(house, deployment)
        house.deployer.check_probation(deployment)
        assert registry.probation("digits") is not None
    assert deployment.state == "serving"
    house.deployer.check_probation(deployment)
    assert registry.probation("digits") is None


def test_a_pinned_version_that_fails_stays_and_is_said(house, digits, images, rebuilt):
    deployment = rebuilt(wait_s=0.008)
    house.deployer.pin("digits")
    house.ask(images)
    house.deployer.check_probation(deployment)
    assert (deployment.version, deployment.state) == ("3", "serving")
    assert deployment.reason.endswith("it stays, for the model is pinned")
    assert deployment.probation is None


def test_a_version_before_that_cannot_serve_leaves_the_new_one(house, digits, images, rebuilt):
    deployment = rebuilt(wait_s=0.008)
    (house.context.paths.bundle("digits", 2) / "manifest.json").unlink()
    house.ask(images)
    house.deployer.check_probation(deployment)
    assert deployment.version == "3"
    assert "the version before it cannot serve" in deployment.reason


def test_a_drop_that_is_built_meanwhile_outlives_the_rollback(house, digits, images, rebuilt):
    deployment = rebuilt(wait_s=0.008)
    fill(house, images)
    house.drop(digits / "digits_v2.tflite")
    house.ask(images)
    house.deployer.check_probation(deployment)
    assert (deployment.version, deployment.state) == ("2", "building")
    assert house.builder.is_pending("digits")


def newest_commit(house: House) -> Event:
    return next(e for e in house.context.registry.events() if e.kind == "committed")


def test_without_memory_for_two_engines_there_is_no_shadow(house, digits, built, tmp_path):
    (tmp_path / "box" / "proc").mkdir(parents=True)
    meminfo = tmp_path / "box" / "proc" / "meminfo"
    meminfo.write_text("MemTotal: 1000 kB\nMemAvailable: 100 kB\n")
    house.context.root = tmp_path / "box"
    deployment = serve_int8(house, digits, built)
    assert deployment.probation is not None
    assert deployment.probation.shadow is None
    committed = newest_commit(house)
    assert committed.fields["policy"] == "drop-then-load"
    assert committed.fields["needed_bytes"] > committed.fields["available_bytes"]
    meminfo.write_text("MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    install(house, built)
    committed = newest_commit(house)
    assert committed.fields["policy"] == "load-then-drop"
    assert deployment.probation.shadow is not None
    house.sidecar("policy: drop-then-load\n")
    install(house, built)
    committed = newest_commit(house)
    assert (committed.fields["policy"], committed.fields["policy_reason"]) == (
        "drop-then-load",
        "as configured",
    )
