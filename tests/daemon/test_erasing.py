"""Erased samples are gone wherever they were kept, and what still holds some is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.daemon.admin import AdminCommands
from tests.daemon.conftest import House, fill, install


def _erase(house: House) -> dict[str, Any]:
    commands = AdminCommands(house.context, house.deployer, lambda f: f(), dict, lambda _: None)
    answer: dict[str, Any] = commands.call("samples", {"name": "digits", "action": "erase"}, b"")
    return answer


def test_no_file_with_a_sample_is_left_but_the_bundles_golden_inputs(
    house: House, digits: Path, built: Path, images: list[dict[str, np.ndarray]]
) -> None:
    deployment = house.drop(digits / "digits.tflite")
    fill(house, images)
    deployment.store.offer({"image": np.full((1, 16, 16, 1), 7, np.float32)})
    install(house, built)
    paths = house.context.paths
    one = next(deployment.store.directory.glob("*.npz"))
    for folder in (paths.set_aside("digits") / "ab", paths.fresh("digits")):
        folder.mkdir(parents=True)
        (folder / one.name).write_bytes(one.read_bytes())
    answer = _erase(house)
    assert answer["removed"] == len(images) + 2
    assert answer["kept"] == [f"bundles/digits/{number}/golden.npz" for number in (1, 2)]
    left = {path for path in paths.state.rglob("*.npz") if "bundles" not in path.parts}
    assert left <= {paths.drift("digits")}  # histograms
    assert house.context.registry.events()[0].message.startswith(f"{answer['removed']} samples")
    assert deployment.engine == "cpu-int8"  # and serves on


def test_erasing_nothing_is_no_error(house: House, digits: Path) -> None:
    house.drop(digits / "digits.tflite")
    assert _erase(house)["removed"] == 0
