"""What another box or edgeq built serves on, and is built again; what is of no use is replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.bundle import FORMAT, MANIFEST, Bundle, Golden
from edgeq.daemon.deployment import Deployment
from edgeq.engines import origin
from edgeq.engines.origin import box_facts
from edgeq.files import sha256_bytes
from tests.daemon.conftest import House, fill, install, open_house, states

GPU = {"gpu": "Orin", "target": "sm_87", "driver": "12.6"}
Images = list[dict[str, np.ndarray]]


@pytest.fixture
def folder(tmp_path: Path, house: House, digits: Path, built: Path, images: Images) -> Path:
    """Leave a folder in which version 2 is INT8, built here, and version 1 float."""
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    install(house, built)
    house.deployer.check_probation(deployment)
    house.deployer.close()
    house.builder.close()
    house.context.registry.end_probation("digits")
    house.context.registry.close()
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[[], House]]:
    """Start over that folder, as often as the test likes; the last one is ended."""
    running: list[Any] = []

    def start() -> House:
        if running:
            running.pop().__exit__(None, None, None)
        running.append(open_house(folder))
        house: House = running[0].__enter__()
        house.deployer.restore()
        house.deployer.resume_builds()
        return house

    yield start
    for each in running:
        each.__exit__(None, None, None)


def bundle_of(folder: Path, version: int) -> Path:
    return folder / "state" / "bundles" / "digits" / str(version)


def rewrite(bundle: Path, **changes: object) -> None:
    """Let a bundle be what another box or edgeq would have written."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def answer_otherwise(bundle: Path) -> None:
    """Let the golden answers be those of another box's kernels."""
    golden = Golden.from_npz((bundle / "golden.npz").read_bytes())
    outputs = tuple({name: value + 1 for name, value in run.items()} for run in golden.outputs)
    content = Golden(golden.inputs, outputs).to_npz()
    (bundle / "golden.npz").write_bytes(content)
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    files["golden.npz"] = {"sha256": sha256_bytes(content), "bytes": len(content)}
    rewrite(bundle, files=files)


def kinds(house: House) -> list[str]:
    return [event.kind for event in house.context.registry.events()]


def message(house: House, kind: str) -> str:
    return next(e.message for e in house.context.registry.events() if e.kind == kind)


def deployment_of(house: House) -> Deployment:
    return house.deployer.deployments["digits"]


def test_a_build_says_on_which_box_it_was_made(built: Path) -> None:
    assert Bundle.open(built).manifest.device == box_facts()


def test_what_was_built_here_is_trusted(started: Callable[[], House]) -> None:
    house = started()
    assert (deployment_of(house).version, deployment_of(house).foreign) == ("2", "")
    assert deployment_of(house).building is None
    assert "foreign" not in kinds(house)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"edgeq": "0.0.9"}, f"edgeq was '0.0.9' and is '{edgeq.__version__}'"),
        ({"runtime": "tflite-runtime 2.14.0"}, "runtime was 'tflite-runtime 2.14.0' and is"),
        ({"device": {"machine": "riscv64"}}, "machine was 'riscv64' and is"),
        ({"backend": "cuda", "engine": "cuda-int8", "details": {**GPU, "driver": "11.4"}},
         "driver was '11.4' and is '12.6'"),
        ({"backend": "cuda", "engine": "cuda-int8", "details": {**GPU, "target": "sm_72"}},
         "target was 'sm_72' and is 'sm_87'"),
    ],
    ids=["edgeq", "runtime", "machine", "driver", "capability"],
)  # fmt: skip
def test_what_was_built_elsewhere_serves_and_is_asked_to_be_built_again(
    folder: Path,
    started: Callable[[], House],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    said: str,
) -> None:
    monkeypatch.setattr(origin, "gpu_facts", lambda: GPU)
    rewrite(bundle_of(folder, 2), **changes)
    house = started()
    deployment = deployment_of(house)
    assert (deployment.version, deployment.engine) == ("2", "cpu-int8")
    assert said in deployment.foreign
    assert deployment.building is not None
    assert said in message(house, "foreign")
    assert "it serves on" in message(house, "foreign")


def test_it_is_built_again_once_and_by_this_edgeq(
    folder: Path, started: Callable[[], House]
) -> None:
    rewrite(bundle_of(folder, 2), edgeq="0.0.9")
    house = started()
    assert house.finish_build().outcome == "succeeded"
    assert (deployment_of(house).version, deployment_of(house).foreign) == ("3", "")
    manifest = Bundle.open(bundle_of(folder, 3)).manifest
    assert (manifest.edgeq, manifest.device) == (edgeq.__version__, box_facts())
    assert states(house) == ["committed", "retired", "retired"]
    house = started()
    assert deployment_of(house).building is None


def test_with_too_few_samples_it_waits_for_them(
    folder: Path, started: Callable[[], House], images: Images
) -> None:
    rewrite(bundle_of(folder, 2), edgeq="0.0.9")
    for path in (folder / "state/samples/digits").glob("*.npz"):
        path.unlink()
    house = started()
    assert deployment_of(house).building is None
    assert "once there are 20 samples; there are 0" in message(house, "foreign")
    fill(house, images)
    house.deployer.consider_build(deployment_of(house), "samples")
    assert deployment_of(house).building is not None


def test_a_pinned_version_is_left_alone(folder: Path, started: Callable[[], House]) -> None:
    house = started()
    house.context.registry.pin("digits")
    rewrite(bundle_of(folder, 2), edgeq="0.0.9")
    house = started()
    assert deployment_of(house).foreign
    assert deployment_of(house).building is None


def test_a_rebuild_that_is_refused_is_not_tried_at_every_start(
    folder: Path, started: Callable[[], House]
) -> None:
    rewrite(bundle_of(folder, 2), edgeq="0.0.9")
    (folder / "edgeq.yaml").write_text("")  # replaced by the next start
    house = started()
    job = deployment_of(house).building
    assert job is not None
    house.deployer._build_refused(
        deployment_of(house), _refusal(house, "the gate refused it"), "the gate refused it"
    )
    house = started()
    assert deployment_of(house).version == "2"
    assert deployment_of(house).building is None


def _refusal(house: House, error: str) -> Any:
    outcome = house.ended.get(timeout=60)  # of the real build, whose end is told otherwise
    return type(outcome)(outcome.job, "rejected", outcome.directory, {"error": error}, 0.1)


# What cannot serve.


def test_what_answers_otherwise_here_gives_way_to_float_and_is_built_again(
    folder: Path, started: Callable[[], House]
) -> None:
    rewrite(bundle_of(folder, 2), device={"processor": "another"})
    answer_otherwise(bundle_of(folder, 2))
    house = started()
    assert (deployment_of(house).version, deployment_of(house).engine) == ("1", "float")
    assert deployment_of(house).building is not None


def test_what_was_built_here_and_answers_otherwise_is_not_built_again(
    folder: Path, started: Callable[[], House]
) -> None:
    answer_otherwise(bundle_of(folder, 2))
    house = started()
    assert deployment_of(house).engine == "float"
    assert deployment_of(house).building is None


@pytest.mark.parametrize("damage", ["cut", "gone", "newer"])
def test_a_bundle_that_cannot_be_read_is_built_again_at_every_start_until_it_is(
    folder: Path, started: Callable[[], House], damage: str
) -> None:
    bundle = bundle_of(folder, 2)
    if damage == "cut":
        (bundle / "int8.tflite").write_bytes((bundle / "int8.tflite").read_bytes()[:-1])
    elif damage == "gone":
        (bundle / MANIFEST).unlink()
    else:
        rewrite(bundle, format=FORMAT + 1)
    for _ in range(2):
        house = started()
        assert (deployment_of(house).version, deployment_of(house).engine) == ("1", "float")
        assert deployment_of(house).building is not None


def test_where_no_version_can_serve_the_float_model_is_taken_out_of_a_bundle(
    folder: Path, started: Callable[[], House]
) -> None:
    for version in (1, 2):
        rewrite(bundle_of(folder, version), device={"processor": "another"})
        answer_otherwise(bundle_of(folder, version))
    house = started()
    assert (deployment_of(house).version, deployment_of(house).engine) == ("3", "float")
    assert "out of a bundle" in message(house, "salvaged")
    assert states(house) == ["committed", "rolled_back", "rolled_back"]
    assert deployment_of(house).building is not None
    house = started()
    assert deployment_of(house).version == "3"


def test_a_float_model_that_is_not_the_one_admitted_is_not_taken(
    folder: Path, started: Callable[[], House]
) -> None:
    for version in (1, 2):
        model = bundle_of(folder, version) / "float.tflite"
        model.write_bytes(model.read_bytes()[:-1])
    house = started()
    assert deployment_of(house).state == "failed"
    assert "salvaged" not in kinds(house)
