"""What refuses a drop before its bytes are looked at, and what is kept of it then."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from edgeq.files import sha256_file
from edgeq.intake.quarantine import Entry
from tests.daemon.conftest import House, fill, install
from tools.swap_bench.drops import variant

SPARSE_BYTES = 1 << 40


def configure(house: House, section: str, **values: object) -> None:
    config = house.context.config
    changed = getattr(config, section).model_copy(update=values)
    house.context.config = config.model_copy(update={section: changed})


def scan(house: House) -> list[Entry]:
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    return house.context.quarantine.entries()


def kept(house: House) -> list[Path]:
    return list(house.context.quarantine.directory.glob("*/*.tflite"))


def test_a_name_beyond_the_most_is_refused_and_a_new_version_is_not(house: House, digits: Path):
    configure(house, "intake", max_models=1)
    house.drop(digits / "digits.tflite")
    shutil.copy(digits / "digits.tflite", house.context.config.models_dir / "another.tflite")
    (entry,) = scan(house)
    assert entry.name == "another"
    assert entry.stage == "too many"
    assert "intake.max_models" in entry.hint
    assert kept(house) == []
    house.drop(digits / "digits_v2.tflite")
    assert house.deployer.deployments["digits"].version == "2"


def test_a_file_that_is_linked_from_outside_is_not_brought_in(
    house: House, digits: Path, tmp_path: Path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(digits / "digits.tflite", outside / "secret.tflite")
    (house.context.config.models_dir / "face").symlink_to(outside)
    (entry,) = scan(house)
    assert entry.stage == "name"
    assert kept(house) == []


def test_a_sparse_file_of_a_tebibyte_costs_no_disk(house: House):
    with (house.context.config.models_dir / "huge.tflite").open("wb") as file:
        file.truncate(SPARSE_BYTES)
    (entry,) = scan(house)
    assert entry.stage == "size"
    assert kept(house) == []
    assert not list(house.context.paths.staging.iterdir())


def test_what_is_refused_for_its_bytes_is_kept(house: House):
    (house.context.config.models_dir / "letter.tflite").write_bytes(b"Dear all, where is it?\n")
    scan(house)
    (file,) = kept(house)
    assert file.read_bytes() == b"Dear all, where is it?\n"


def test_a_drop_that_is_replaced_while_it_is_built_is_never_served(
    house: House, built: Path, digits: Path, images: list[dict[str, np.ndarray]], tmp_path: Path
):
    house.drop(digits / "digits.tflite")
    fill(house, images)
    deployment = install(house, built)
    newest = tmp_path / "newest.tflite"
    newest.write_bytes(variant((digits / "digits_v2.tflite").read_bytes(), seed=0))
    house.drop(digits / "digits_v2.tflite")
    assert deployment.building is not None
    house.drop(newest)
    ended = [house.finish_build() for _ in range(2)]
    assert sorted(outcome.outcome for outcome in ended) == ["cancelled", "succeeded"]
    assert deployment.version == "3"
    assert deployment.model_sha256 == sha256_file(newest)
    assert not list(house.context.paths.staging.iterdir())
