"""A model with other inputs: refused, or let in by its sidecar, and its samples kept apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeq.daemon.capture import Capture
from edgeq.daemon.drift import DriftWatch
from edgeq.daemon.interface import SET_ASIDE_KEPT, fits, keep_samples_that_fit
from edgeq.swap import Inference, LiveInfo
from edgeq.tflite.runtime import TensorSpec
from tests import tiny
from tests.daemon.conftest import House, fill, install

REPLACE = "interface: replace\n"


@pytest.fixture
def other(tiny_model_bytes: bytes, tmp_path: Path) -> Path:
    """A model with other inputs and outputs than the digits model's."""
    path = tmp_path / "other.bin"
    path.write_bytes(tiny_model_bytes)
    return path


def event(house: House, kind: str) -> str:
    return next(e.message for e in house.context.registry.events() if e.kind == kind)


def test_another_interface_is_refused_until_the_sidecar_lets_it_in(house, digits, other):
    deployment = house.drop(digits / "digits.tflite")
    house.drop(other)
    assert deployment.version == "1"
    entry = house.context.quarantine.entries()[0]
    assert entry.stage == "interface"
    assert "`interface: replace`" in entry.hint
    house.sidecar(REPLACE)  # the same bytes: they were not at fault
    assert deployment.version == "2"
    assert deployment.slot.live.inputs[0].shape == (1, 8, 8, 3)
    said = event(house, "interface")
    assert "its inputs are 'image' float32 [1, 8, 8, 3], not 'image' float32 [1, 16, 16, 1]" in said
    assert "its outputs are" in said


def test_samples_of_the_old_inputs_are_set_aside_and_come_back(house, digits, other, images):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.sidecar(REPLACE)
    house.drop(other)
    assert (deployment.version, len(deployment.store)) == ("2", 0)
    assert not house.builder.is_pending("digits")  # on samples of the old inputs
    assert "60 samples of other inputs were set aside in" in event(house, "interface")
    assert 'edgeq_samples{model="digits",set="fit"} 0.0' in house.context.metrics.page().decode()
    deployment.store.add(tiny.tiny_inputs())
    house.deployer.rollback("digits", "asked for")
    assert (deployment.version, len(deployment.store)) == ("1", len(images))
    said = event(house, "interface")
    assert "1 samples of other inputs were set aside" in said
    assert "60 samples of its inputs were brought back" in said
    house.deployer.rollback("digits", "asked for", to=2)
    assert [s.inputs["image"].shape for s in deployment.store] == [(1, 8, 8, 3)]


def test_an_int8_engine_gives_way_to_a_float_model_of_another_interface(
    house, digits, other, images, built
):
    house.drop(digits / "digits.tflite")
    deployment = install(house, built)
    fill(house, images)
    house.see(images)
    DriftWatch(house.context, house.deployer).check(deployment)
    assert 'edgeq_drift_psi{model="digits"' in house.context.metrics.page().decode()
    house.sidecar(REPLACE)
    house.drop(other)
    assert (deployment.version, deployment.engine) == ("3", "float")
    assert 'edgeq_drift_psi{model="digits"' not in house.context.metrics.page().decode()
    assert deployment.monitor is None  # the drift of the old inputs is no matter any more
    assert deployment.probation.shadow is None  # nor can the old version answer the new requests


def test_a_crash_between_two_moves_is_mended_by_the_next_start(house, digits, other, images):
    house.drop(digits / "digits.tflite")
    fill(house, images)
    house.sidecar(REPLACE)
    house.drop(other)
    kept = next(house.context.paths.set_aside("digits").iterdir())
    house.deployer.rollback("digits", "asked for")
    house.deployer.close()
    # As if the samples had been on their way back when the daemon was killed.
    store = house.context.paths.samples("digits")
    assert not kept.exists()
    store.rename(kept)
    house.deployer.deployments.clear()
    house.deployer.restore()
    assert len(house.deployer.deployments["digits"].store) == len(images)


def test_samples_of_before_the_marks_are_looked_into(house, digits, other, images):
    house.drop(digits / "digits.tflite")
    fill(house, images)
    folder = house.context.paths.samples("digits")
    (folder / "interface.json").unlink()
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    assert len(house.deployer.deployments["digits"].store) == len(images)
    assert (folder / "interface.json").is_file()
    (folder / "interface.json").unlink()
    house.sidecar(REPLACE)
    assert len(house.drop(other).store) == 0


def test_only_the_latest_folders_of_other_samples_are_kept(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    for size in range(2, 8):
        spec = TensorSpec("image", (1, size), np.dtype("f4"))
        live = LiveInfo("1", "float", (spec,), (), 0.0)
        keep_samples_that_fit(house.context, deployment, live)
        deployment.store.add({"image": np.ones((1, size), "f4")})
    assert len(list(house.context.paths.set_aside("digits").iterdir())) == SET_ASIDE_KEPT


def test_a_disk_that_refuses_the_move_does_not_undo_the_swap(
    house, digits, other, images, monkeypatch
):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    house.sidecar(REPLACE)

    def refuse(*_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr("edgeq.daemon.publisher.keep_samples_that_fit", refuse)
    house.drop(other)
    assert deployment.version == "2"
    assert "could not be set aside: read-only file system" in event(house, "interface")
    outcome = house.finish_build()  # which leaves out the samples of other inputs
    assert outcome.outcome == "failed"
    assert "there are 0 samples" in outcome.result["error"]
    assert (deployment.version, deployment.engine) == ("2", "float")


def test_a_late_capture_of_the_old_inputs_is_left_out(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    capture = Capture(lambda _: None)
    answer = Inference({"scores": np.zeros((1, 10), "f4")}, "1", "float")
    capture.offer(deployment, {"image": np.ones((1, 8, 8, 3), "f4")}, answer, 1.0)
    capture.stop()
    capture.run()
    assert len(deployment.store) == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "name", "is_one"),
    [
        ((1, 4), "f4", "x", True),
        ((7, 4), "f4", "x", True),  # the extent is free
        ((7, 5), "f4", "x", False),
        ((4,), "f4", "x", False),
        ((1, 4), "i1", "x", False),
        ((1, 4), "f4", "z", False),
    ],
)
def test_a_sample_fits_names_types_and_shapes(shape, dtype, name, is_one):
    spec = TensorSpec("x", (-1, 4), np.dtype("f4"))
    assert fits({name: np.zeros(shape, dtype)}, (spec,)) is is_one
    assert not fits({}, (spec,))


def test_nothing_is_lost_where_the_set_aside_folder_is_there_already(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    spec = TensorSpec("image", (1, 2), np.dtype("f4"))
    keep_samples_that_fit(house.context, deployment, LiveInfo("1", "float", (spec,), (), 0.0))
    (folder,) = house.context.paths.set_aside("digits").iterdir()
    names = sorted(path.name for path in folder.glob("added-*"))
    assert len(names) == len(images)
    shutil.copytree(folder, folder.with_name("backup"))
    keep_samples_that_fit(house.context, deployment, deployment.slot.live)
    assert len(deployment.store) == len(images)
