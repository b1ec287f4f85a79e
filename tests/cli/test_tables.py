from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from edgeq.bundle import Bundle
from edgeq.calibrate.table import CalibrationTable, histograms_from_npz, read_tensorrt_cache
from edgeq.files import sha256_file

ROW_KEYS = {"lo", "hi", "method", "divergence", "clipped_ratio", "min", "max"}


@pytest.fixture(scope="session")
def halves(samples: Path, tmp_path_factory) -> tuple[Path, Path]:
    """The samples of two boxes."""
    with np.load(samples / "images.npz") as arrays:
        images = arrays["x"]
    folders = tuple(tmp_path_factory.mktemp(f"box{n}") for n in (1, 2))
    np.savez(folders[0] / "a.npz", x=images[:20])
    np.savez(folders[1] / "b.npz", x=images[20:])
    return folders


def calibrated(edgeq, model: Path, samples: Path, out: Path, *flags: str) -> Path:
    assert edgeq("calibrate", model, "--samples", samples, "--out", out, *flags).code == 0
    return out


# ---- calibrate


def test_a_table_has_exactly_the_promised_keys(edgeq, model, samples, tmp_path):
    out = tmp_path / "table.json"
    ran = edgeq("calibrate", model, "--samples", samples, "--out", out, "--json")
    assert ran.code == 0
    table = json.loads(out.read_bytes())
    assert set(table) == {"model_sha256", "method", "samples", "tensors"}
    assert table["model_sha256"] == sha256_file(model)
    assert (table["method"], table["samples"]) == ("entropy", 48)
    assert all(set(row) == ROW_KEYS for row in table["tensors"].values())
    assert ran.json == {
        "table": str(out), "tensors": len(table["tensors"]), "samples": 48, "method": "entropy",
    }  # fmt: skip


def test_the_histograms_lie_beside_the_table(edgeq, model, samples, tmp_path):
    out = calibrated(edgeq, model, samples, tmp_path / "table.json")
    histograms = histograms_from_npz((tmp_path / "table.npz").read_bytes())
    table = CalibrationTable.from_json(out.read_bytes())
    assert list(histograms) == list(table.tensors)
    assert (
        CalibrationTable.from_histograms(table.model_sha256, "entropy", table.samples, histograms)
        == table
    )


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse", "max"])
def test_every_method_writes_its_table(method, edgeq, model, samples, tmp_path):
    out = calibrated(edgeq, model, samples, tmp_path / "t.json", "--method", method)
    assert json.loads(out.read_bytes())["method"] == method


def test_the_sidecar_s_method_is_taken_where_none_is_given(edgeq, model, samples, tmp_path):
    shutil.copy(model, tmp_path / "m.tflite")
    (tmp_path / "m.yaml").write_text("method: mse\n")
    out = calibrated(edgeq, tmp_path / "m.tflite", samples, tmp_path / "t.json")
    assert json.loads(out.read_bytes())["method"] == "mse"


def test_a_person_gets_the_ranges(edgeq, model, samples, tmp_path):
    ran = edgeq("calibrate", model, "--samples", samples, "--out", tmp_path / "t.json")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["lo", "hi", "min", "max", "clipped", "method", "tensor"]
    assert len(rows) == len(json.loads((tmp_path / "t.json").read_bytes())["tensors"])


def test_a_table_cannot_take_the_histograms_name(edgeq, model, samples, tmp_path):
    ran = edgeq("calibrate", model, "--samples", samples, "--out", tmp_path / "t.npz")
    assert ran.code == 2
    assert "Name the table .json." in ran.err
    assert not any(tmp_path.iterdir())


def test_a_model_that_is_int8_already_has_nothing_to_calibrate(edgeq, bundle, samples, tmp_path):
    int8 = bundle / "int8.tflite"
    ran = edgeq("calibrate", int8, "--samples", samples, "--out", tmp_path / "t.json", "--json")
    assert (ran.code, ran.json["kind"]) == (1, "CalibrationError")
    assert not (tmp_path / "t.json").exists()


def test_a_sample_that_is_left_out_is_named(edgeq, model, samples, tmp_path):
    folder = tmp_path / "s"
    shutil.copytree(samples, folder)
    with np.load(samples / "images.npz") as arrays:
        np.save(folder / "z.npy", np.full_like(arrays["x"][0], np.nan, np.float32))
    ran = edgeq("calibrate", model, "--samples", folder, "--out", tmp_path / "t.json")
    assert ran.code == 0
    assert "edgeq: sample dropped: " in ran.err
    assert "NaN" in ran.err


def test_an_output_folder_that_is_not_there_is_named(edgeq, model, samples, tmp_path):
    out = tmp_path / "no" / "t.json"
    ran = edgeq("calibrate", model, "--samples", samples, "--out", out)
    assert ran.code == 1
    assert "No such file or directory" in ran.err
    assert "Traceback" not in ran.err


# ---- merge


def test_merging_two_boxes_is_calibrating_once(edgeq, model, samples, halves, tmp_path):
    boxes = [
        calibrated(edgeq, model, half, tmp_path / f"box{n}.json") for n, half in enumerate(halves)
    ]
    ran = edgeq("merge", *boxes, "--out", tmp_path / "fleet.json", "--json")
    assert (ran.code, ran.json["samples"]) == (0, 48)
    once = calibrated(edgeq, model, samples, tmp_path / "once.json")
    assert (tmp_path / "fleet.json").read_bytes() == once.read_bytes()
    assert (tmp_path / "fleet.npz").read_bytes() == (tmp_path / "once.npz").read_bytes()


def test_one_table_merges_to_itself(edgeq, model, samples, tmp_path):
    table = calibrated(edgeq, model, samples, tmp_path / "t.json")
    assert edgeq("merge", table, "--out", tmp_path / "m.json").code == 0
    assert (tmp_path / "m.json").read_bytes() == table.read_bytes()


def test_tables_of_two_models_do_not_merge(edgeq, digits, model, samples, tmp_path):
    first = calibrated(edgeq, model, samples, tmp_path / "a.json")
    second = calibrated(edgeq, digits / "digits_v2.tflite", samples, tmp_path / "b.json")
    ran = edgeq("merge", first, second, "--out", tmp_path / "m.json")
    assert ran.code == 2
    assert "b.json is of model " in ran.err
    assert not (tmp_path / "m.json").exists()


def test_tables_of_two_methods_do_not_merge(edgeq, model, samples, tmp_path):
    first = calibrated(edgeq, model, samples, tmp_path / "a.json")
    second = calibrated(edgeq, model, samples, tmp_path / "b.json", "--method", "max")
    ran = edgeq("merge", first, second, "--out", tmp_path / "m.json")
    assert ran.code == 2
    assert "b.json is of method max; " in ran.err


def test_a_table_without_its_histograms_does_not_merge(edgeq, model, samples, tmp_path):
    table = calibrated(edgeq, model, samples, tmp_path / "a.json")
    (tmp_path / "a.npz").unlink()
    ran = edgeq("merge", table, "--out", tmp_path / "m.json")
    assert ran.code == 2
    assert "a.npz is not a file" in ran.err


def test_histograms_of_another_calibration_do_not_merge(edgeq, model, samples, tmp_path):
    table = calibrated(edgeq, model, samples, tmp_path / "a.json")
    content = json.loads(table.read_bytes())
    content["tensors"].pop(next(iter(content["tensors"])))
    table.write_text(json.dumps(content))
    ran = edgeq("merge", table, "--out", tmp_path / "m.json")
    assert ran.code == 2
    assert "Copy both files" in ran.err


# ---- export


def test_a_bundle_exports_its_int8_model(edgeq, bundle, tmp_path):
    out = tmp_path / "model.tflite"
    ran = edgeq("export", bundle, "--format", "tflite", "--out", out, "--json")
    assert out.read_bytes() == Bundle.open(bundle).read("int8.tflite")
    assert ran.json == {"file": str(out), "format": "tflite", "bytes": out.stat().st_size}


@pytest.mark.parametrize("source", ["bundle", "table"])
def test_thresholds_export_as_json_and_as_tensorrt_s_cache(source, edgeq, bundle, tmp_path):
    given = bundle if source == "bundle" else tmp_path / "table.json"
    if source == "table":
        given.write_bytes(Bundle.open(bundle).read("calibration.json"))
    for kind in ("json", "tensorrt-cache"):
        assert edgeq("export", given, "--format", kind, "--out", tmp_path / kind).code == 0
    table = CalibrationTable.from_json((tmp_path / "json").read_bytes())
    cache = (tmp_path / "tensorrt-cache").read_text()
    assert cache.startswith("TRT-")
    amax = read_tensorrt_cache(cache)
    assert set(amax) == set(table.tensors)
    for name, row in table.tensors.items():
        largest = max(abs(row.lo), abs(row.hi))
        assert amax[name] == pytest.approx(struct.unpack("f", struct.pack("f", largest))[0])


def test_a_table_holds_no_int8_model(edgeq, bundle, tmp_path):
    table = bundle / "calibration.json"
    ran = edgeq("export", table, "--format", "tflite", "--out", tmp_path / "x")
    assert ran.code == 2
    assert "hint: Name the bundle." in ran.err


def test_what_is_neither_bundle_nor_table_is_refused(edgeq, tmp_path):
    ran = edgeq("export", tmp_path / "no", "--format", "json", "--out", tmp_path / "x")
    assert ran.code == 2
    ran = edgeq("export", tmp_path, "--format", "json", "--out", tmp_path / "x", "--json")
    assert (ran.code, ran.json["kind"]) == (1, "BundleError")
    (tmp_path / "bad.json").write_text("{}")
    ran = edgeq("export", tmp_path / "bad.json", "--format", "json", "--out", tmp_path / "x")
    assert ran.code == 1
    assert not (tmp_path / "x").exists()


def test_a_bundle_that_was_not_calibrated_here_says_so(edgeq, bundle, samples, tmp_path):
    built = ["build", bundle / "int8.tflite", "--samples", samples, "--out", tmp_path / "b"]
    assert edgeq(*built).code == 0
    ran = edgeq("export", tmp_path / "b", "--format", "json", "--out", tmp_path / "x")
    assert ran.code == 2
    assert "was not calibrated here" in ran.err
