"""The life of a model, step by step, with real builds and no threads but theirs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from edgeq.daemon import publisher
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError, RegistryError, SwapError, UnavailableError
from tests.daemon.conftest import build_int8, fill, states


def test_a_drop_serves_as_float_and_waits_for_samples(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    assert (deployment.engine, deployment.state) == ("float", "serving")
    fill(house, images[:19])
    house.deployer.consider_build(deployment, "samples")
    assert not house.builder.is_pending("digits")
    fill(house, images[19:21])
    house.deployer.consider_build(deployment, "samples")
    assert house.builder.is_pending("digits")
    assert deployment.state == "building"


def test_a_configuration_without_refinement_reaches_the_child(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.deployer.consider_build(deployment, "samples")
    assert "--no-refine" not in deployment.building.arguments
    assert "refine" in house.finish_build().result["stages"]
    house.context.config = house.context.config.model_copy(
        update={"build": house.context.config.build.model_copy(update={"refine": False})}
    )
    house.deployer.recalibrate(deployment, "request")
    assert "--no-refine" in deployment.building.arguments
    assert "refine" not in house.finish_build().result["stages"]


@pytest.mark.parametrize(("mixed", "flag"), [(True, "--mixed"), (False, "--no-mixed")])
def test_the_configured_mixed_precision_reaches_the_child(mixed, flag, house, digits, images):
    house.context.config = house.context.config.model_copy(
        update={"build": house.context.config.build.model_copy(update={"mixed_precision": mixed})}
    )
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.deployer.consider_build(deployment, "samples")
    assert flag in deployment.building.arguments
    assert house.finish_build().outcome == "succeeded"


def test_probation_ends_well_or_takes_the_version_back(house, digits, images, monkeypatch):
    deployment = build_int8(house, digits, images)
    assert deployment.state == "probation"
    house.deployer.check_probation(deployment)
    assert deployment.state == "probation"
    time.sleep(0.6)
    house.deployer.check_probation(deployment)
    assert deployment.state == "serving"

    class Failing(CpuEngine):
        """Proves itself, then fails in service."""

        answers = 0

        def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
            self.answers += 1
            if self.answers > 20:
                raise EngineError("the device is gone")
            return super().infer(inputs)

    def load(bundle: Any, threads: int) -> Any:
        return Failing(bundle.read("int8.tflite"), "cpu-int8", threads=threads)

    monkeypatch.setattr(publisher, "load_engine", load)
    house.deployer.recalibrate(deployment, "request")
    house.finish_build()
    assert deployment.version == "3"
    for _ in range(30):
        future = deployment.slot.submit(images[0], timeout_s=5)
        failed = future.exception(timeout=5)
    assert isinstance(failed, EngineError)
    monkeypatch.undo()
    house.deployer.check_probation(deployment)
    assert deployment.version == "2"
    assert states(house) == ["rolled_back", "committed", "retired"]
    page = house.context.metrics.page().decode()
    assert 'edgeq_swaps_total{model="digits",outcome="rolled_back"} 1.0' in page


def test_an_engine_that_takes_another_s_place_is_said_once_and_named(
    house, digits, monkeypatch, caplog
):
    class Weary(CpuEngine):
        """Stands for a GPU's engine that fails."""

    def load(bundle: Any, threads: int) -> Any:
        engine = Weary(bundle.read("float.tflite"), "cuda-int8", threads=threads)
        engines.append(engine)
        return engine

    def page() -> str:
        return house.context.metrics.page().decode()

    engines: list[Weary] = []
    monkeypatch.setattr(publisher, "load_engine", load)
    deployment = house.drop(digits / "digits.tflite")
    assert 'engine="cuda-int8",method="float",model="digits",version="1"} 1.0' in page()
    engines[0].kind, engines[0].fault = "cpu-int8", "the context is lost"
    for _ in range(3):
        house.deployer.publisher.note_engine(deployment, deployment.slot.live)
    assert [r.message for r in caplog.records if r.name == publisher.__name__].count(
        "engine changed"
    ) == 1
    event = house.context.registry.events(1)[0]
    assert "answers come from cpu-int8, not from cuda-int8" in event.message
    assert "the context is lost" in event.message
    assert 'engine="cuda-int8"' not in page()
    engines[0].kind, engines[0].fault = "cuda-int8", ""
    house.deployer.publisher.note_engine(deployment, deployment.slot.live)
    assert "it is well again" in house.context.registry.events(1)[0].message


def test_a_gate_that_refuses_leaves_float_and_is_not_tried_again(house, digits, images):
    sidecar = house.context.config.models_dir / "digits.yaml"
    sidecar.write_text("task: regression\ngate: {sqnr_db: 150}\n")
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.deployer.consider_build(deployment, "samples")
    outcome = house.finish_build()
    assert outcome.outcome == "rejected"
    assert (deployment.engine, deployment.state) == ("float", "serving")
    assert "150.0 dB" in deployment.reason
    house.deployer.consider_build(deployment, "samples")
    assert not house.builder.is_pending("digits")
    assert 'edgeq_builds_total{model="digits",outcome="rejected"} 1.0' in (
        house.context.metrics.page().decode()
    )


def test_a_new_drop_whose_build_is_refused_is_served_as_float(house, digits, images):
    deployment = build_int8(house, digits, images)
    sidecar = house.context.config.models_dir / "digits.yaml"
    sidecar.write_text("task: regression\ngate: {sqnr_db: 150}\n")
    house.drop(digits / "digits_v2.tflite")
    assert deployment.engine == "cpu-int8"  # the old one, until it is decided
    assert house.finish_build().outcome == "rejected"
    assert deployment.engine == "float"
    assert deployment.version == "3"


def test_the_outcome_of_a_build_that_was_called_off_is_ignored(house, digits, images):
    deployment = build_int8(house, digits, images)
    house.deployer.recalibrate(deployment, "request")
    outcome = house.ended.get(timeout=60)
    assert outcome.outcome == "succeeded"
    house.deployer.rollback("digits", "asked for")
    house.deployer.build_ended(outcome)
    assert (deployment.version, deployment.engine) == ("1", "float")
    assert not outcome.directory.exists()


def test_a_rollback_needs_a_version_that_has_served(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    with pytest.raises(RegistryError):
        house.deployer.rollback("digits", "asked for")
    assert deployment.version == "1"


def test_a_bundle_that_was_altered_is_passed_over_at_the_next_start(house, digits, images):
    build_int8(house, digits, images)
    damaged = house.context.paths.bundle("digits", 2) / "int8.tflite"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.engine) == ("1", "float")
    assert states(house) == ["rolled_back", "committed"]


def test_a_model_without_any_sound_bundle_fails_alone(house, digits, images):
    house.drop(digits / "digits.tflite")
    house.drop(digits / "digits_v2.tflite", "other")
    for version in house.context.registry.versions("digits"):
        for file in house.context.paths.bundle("digits", version.version).iterdir():
            file.unlink()
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    assert house.deployer.deployments["digits"].state == "failed"
    assert house.deployer.deployments["other"].state == "serving"
    with pytest.raises(UnavailableError):
        house.deployer.deployments["digits"].slot.submit(images[0])


def test_a_registry_that_cannot_be_written_keeps_the_old_version(
    house, digits, images, monkeypatch
):
    deployment = house.drop(digits / "digits.tflite")

    def refuse(*_: Any) -> None:
        raise RegistryError("the disk is full")

    monkeypatch.setattr(house.context.registry, "commit", refuse)
    house.drop(digits / "digits_v2.tflite")
    assert deployment.version == "1"


def test_unload_stops_and_load_starts_serving(house, digits):
    house.drop(digits / "digits.tflite")
    house.deployer.unload("digits")
    assert house.deployer.deployments["digits"].slot.live is None
    house.deployer.load("digits")
    assert house.deployer.deployments["digits"].version == "1"
    for version in house.context.registry.versions("digits"):
        (house.context.paths.bundle("digits", version.version) / "manifest.json").unlink()
    house.deployer.unload("digits")
    with pytest.raises(SwapError):
        house.deployer.load("digits")


def test_a_removed_drop_goes_on_or_stops_as_configured(house, digits):
    house.drop(digits / "digits.tflite")
    house.deployer.removed("digits")
    assert house.deployer.deployments["digits"].version == "1"
    house.context.config = house.context.config.model_copy(update={"on_remove": "unload"})
    house.deployer.removed("digits")
    assert house.deployer.deployments["digits"].slot.live is None
    house.deployer.removed("never heard of")


def test_only_the_newest_bundles_are_kept(house, digits):
    for number in range(8):
        house.drop(digits / ("digits_v2.tflite" if number % 2 else "digits.tflite"))
        for sha256 in {v.model_sha256 for v in house.context.registry.versions("digits")}:
            house.context.registry.forget_drop("digits", sha256)
    kept = sorted(p.name for p in (house.context.paths.state / "bundles/digits").iterdir())
    assert kept == ["4", "5", "6", "7", "8"]
    assert len(house.context.registry.versions("digits")) == 5
