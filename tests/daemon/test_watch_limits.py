"""What the watch does where there is nothing to compare with, or nothing to go back to."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.daemon import publisher
from edgeq.errors import EngineError
from tests.daemon.conftest import House, install, states


def configure(house: House, **probation: Any) -> None:
    config = house.context.config
    changed = config.swap.probation.model_copy(update=probation)
    swap = config.swap.model_copy(update={"probation": changed})
    house.context.config = config.model_copy(update={"swap": swap})


def test_a_ratio_of_zero_loads_no_second_engine(house, digits, built):
    configure(house, shadow_ratio=0.0)
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    assert deployment.probation is not None
    assert deployment.probation.shadow is None


def test_a_first_version_is_not_watched(house, digits):
    deployment = house.drop(digits / "digits.tflite")
    assert (deployment.state, deployment.probation) == ("serving", None)


def test_a_damaged_version_before_gives_no_shadow_and_a_reason(
    house, digits, built, monkeypatch, caplog
):
    house.drop(digits / "digits.tflite")
    damaged = house.context.paths.bundle("digits", 1) / "float.tflite"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    deployment = install(house, built)
    assert deployment.probation.shadow is None
    assert "no shadow" in caplog.messages


def test_without_a_version_to_go_back_to_the_watch_ends(house, digits, built):
    house.drop(digits / "digits.tflite")
    install(house, built)
    house.deployer.close()
    house.context.registry.remove_version("digits", 1)
    house.deployer.deployments.clear()
    house.deployer.restore()
    deployment = house.deployer.deployments["digits"]
    assert (deployment.version, deployment.state) == ("2", "serving")
    assert house.context.registry.probation("digits") is None


def test_a_version_that_cannot_be_published_leaves_the_watch_over_the_one_that_serves(
    house, digits, built, monkeypatch
):
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)

    def refuse(bundle: Any, threads: int) -> Any:
        raise EngineError("the device is gone")

    monkeypatch.setattr(publisher, "load_engine", refuse)
    install(house, built)
    assert (deployment.version, deployment.state) == ("2", "probation")
    assert "the device is gone" in deployment.reason
    assert states(house) == ["rejected", "committed", "retired"]


@pytest.mark.parametrize("ratio", [1.0, 0.02])
def test_the_limit_is_never_below_what_the_gate_allows(house, digits, built, ratio):
    configure(house, max_disagreement_ratio=ratio)
    house.drop(digits / "digits.tflite")
    house.sidecar("gate: {agreement: 0.9}\n")
    deployment = install(house, built)
    options = deployment.probation.shadow._options
    assert options.max_other_choices == pytest.approx(max(ratio, 0.1))
    assert options.max_cosine_distance == pytest.approx(max(ratio, 0.02))
