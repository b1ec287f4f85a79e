"""`edgeq build --table`: ranges from elsewhere, samples that choose and judge only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeq.bundle import Bundle
from edgeq.calibrate.table import CalibrationTable
from edgeq.tflite.model import Model


@pytest.fixture
def table(edgeq, model, samples, tmp_path) -> Path:
    out = tmp_path / "table.json"
    assert edgeq("calibrate", model, "--samples", samples, "--out", out).code == 0
    return out


@pytest.fixture
def build(edgeq, model, samples, tmp_path):
    def run(table: Path, *flags: str):
        out = tmp_path / f"bundle-{table.stem}-{'-'.join(flags)}"
        ran = edgeq("build", model, "--samples", samples, "--table", table, "--out", out,
                    "--json", *flags)  # fmt: skip
        return ran, out

    return run


def test_nothing_is_calibrated_and_every_method_can_still_choose(build, table):
    ran, out = build(table)
    assert ran.code == 0, ran.err
    assert "calibrate" not in ran.json["stages"]
    assert set(ran.json["candidates"]) == {"entropy", "percentile", "mse", "max"}
    assert {"calibration.json", "calibration.npz"} <= set(Bundle.open(out).manifest.files)


def test_a_table_without_its_histograms_keeps_its_ranges(build, table):
    table.with_suffix(".npz").unlink()
    ran, out = build(table)
    assert (ran.code, ran.json["method"], ran.json["candidates"]) == (0, "entropy", {})
    told = CalibrationTable.from_json(Bundle.open(out).read("calibration.json"))
    assert told == CalibrationTable.from_json(table.read_bytes())


def test_another_method_wants_the_histograms(build, table):
    table.with_suffix(".npz").unlink()
    ran, _ = build(table, "--method", "mse")
    assert ran.code == 1
    assert "mse cannot be chosen without the histograms" in ran.err
    assert "Copy the .npz" in ran.err


def test_the_tables_of_two_boxes_build_one_model(edgeq, model, samples, tmp_path, build):
    with np.load(samples / "images.npz") as arrays:
        images = arrays["x"]
    parts = []
    for box, part in enumerate((images[:30], images[30:])):
        folder = tmp_path / f"box{box}"
        folder.mkdir()
        np.save(folder / "x.npy", part)
        parts.append(tmp_path / f"box{box}.json")
        edgeq("calibrate", model, "--samples", folder, "--out", parts[-1])
    merged = tmp_path / "fleet.json"
    assert edgeq("merge", *parts, "--out", merged).code == 0
    ran, _ = build(merged, "--method", "entropy")
    assert ran.code == 0, ran.err


def test_tensorrt_s_cache_is_taken(edgeq, build, table, tmp_path):
    cache = tmp_path / "calibration.cache"
    assert edgeq("export", table, "--format", "tensorrt-cache", "--out", cache).code == 0
    ran, out = build(cache)
    assert (ran.code, ran.json["method"]) == (0, "tensorrt"), ran.err
    assert Model.from_bytes(Bundle.open(out).read("int8.tflite")).operators


def test_a_table_of_another_model_is_refused(build, table, tmp_path):
    other = tmp_path / "other.json"
    told = json.loads(table.read_bytes())
    other.write_text(json.dumps({**told, "model_sha256": "cd" * 32}))
    shutil.copy(table.with_suffix(".npz"), other.with_suffix(".npz"))
    ran, out = build(other)
    assert ran.code == 1
    assert "the calibration table is of model cdcdcdcdcdcd" in ran.err
    assert not out.exists()
