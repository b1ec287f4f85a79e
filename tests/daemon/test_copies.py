"""An update that looks damaged does not replace what serves, unless something proves it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeq.intake.quarantine import Entry
from edgeq.tflite.model import Model
from tests.daemon.conftest import House, states


@pytest.fixture
def serving(house: House, digits: Path) -> House:
    house.drop(digits / "digits.tflite")
    return house


@pytest.fixture(scope="module")
def damaged(digits: Path) -> bytes:
    """The digits model with one bit of a weight flipped: it loads and runs."""
    content = bytearray((digits / "digits.tflite").read_bytes())
    content[20_001] ^= 0x40
    return bytes(content)


@pytest.fixture(scope="module")
def silent(digits: Path) -> bytes:
    """Another model of the same interface, whose weights are not numbers."""
    model = Model.from_bytes((digits / "digits_v2.tflite").read_bytes())
    for index in range(len(model.tensors)):
        values = model.constant(index)
        if values is not None and values.dtype == np.float32:
            model.tensors[index].buffer = model.add_buffer(np.full_like(values, np.nan))
    return model.to_bytes()


def take(house: House, content: bytes, name: str = "digits") -> list[Entry]:
    """Drop a file, and return what is in quarantine then."""
    (house.context.config.models_dir / f"{name}.tflite").write_bytes(content)
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    return house.context.quarantine.entries()


def test_a_damaged_copy_of_what_serves_is_refused_with_a_reason(serving: House, damaged: bytes):
    (entry,) = take(serving, damaged)
    assert entry.stage == "copy check"
    assert entry.error.startswith("it is version 1 of 'digits', but for 1 of 38116 bytes")
    assert "sha256" in entry.hint
    assert states(serving) == ["committed"]
    assert not list(serving.context.paths.staging.iterdir())


def test_a_damaged_copy_is_known_under_another_name_too(serving: House, damaged: bytes):
    (entry,) = take(serving, damaged, "other")
    assert entry.stage == "copy check"
    assert "other" not in serving.deployer.deployments


def test_a_damaged_copy_of_the_version_before_is_known(
    serving: House, damaged: bytes, digits: Path
):
    serving.drop(digits / "digits_v2.tflite")
    (entry,) = take(serving, damaged)
    assert entry.error.startswith("it is version 1 of 'digits'")
    assert serving.deployer.deployments["digits"].version == "2"


def test_a_digest_in_the_sidecar_lets_the_same_bytes_in(serving: House, damaged: bytes):
    take(serving, damaged)
    serving.sidecar(f"sha256: {hashlib.sha256(damaged).hexdigest()}\n")
    assert serving.deployer.deployments["digits"].version == "2"


def test_an_update_that_answers_with_nan_is_refused(serving: House, silent: bytes):
    (entry,) = take(serving, silent)
    assert entry.stage == "copy check"
    assert "NaN or infinity" in entry.error
    assert states(serving) == ["committed"]


def test_a_model_that_is_new_here_may_answer_as_it_likes(house: House, silent: bytes):
    assert take(house, silent) == []
    assert house.deployer.deployments["digits"].version == "1"


def test_an_update_of_another_interface_is_refused_for_that(serving: House, silent: bytes):
    model = Model.from_bytes(silent)
    model.tensors[model.inputs[0]].name = b"picture"
    (entry,) = take(serving, model.to_bytes())
    assert entry.stage == "interface"


@pytest.mark.parametrize("lost", ["golden.npz", "manifest.json"])
def test_without_answers_of_the_live_version_none_are_compared(
    serving: House, silent: bytes, lost: str
):
    (serving.context.paths.bundle("digits", 1) / lost).unlink()
    assert take(serving, silent) == []


def test_a_lost_reference_refuses_nothing(serving: House, damaged: bytes):
    shutil.rmtree(serving.context.paths.bundle("digits", 1))
    assert take(serving, damaged) == []
