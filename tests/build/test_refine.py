"""The refinement inside a build: kept where it is better, told, and never by held-out samples."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import edgeq.build.forms
import edgeq.build.layers
from edgeq.build.forms import AUTO_METHODS
from edgeq.build.layers import BIAS_CORRECTION
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.build.refining import EQUALIZATION
from edgeq.bundle import Bundle, Manifest
from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import EngineError
from edgeq.quantize.convert import quantize
from edgeq.quantize.refine import correct_biases
from edgeq.samples.split import split_samples
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.verify import VerifyOptions
from tests import tiny
from tests.biases import with_moved_biases
from tests.build_samples import drawn, from_list
from tests.quantize.test_equalize import unequal

OPEN_GATE = VerifyOptions(agreement=0.0, cosine=-1.0, sqnr_db=-200.0)
TINY = BuildOptions(method="max", verify=OPEN_GATE)


@pytest.fixture(scope="module")
def tiny_samples() -> list[Sample]:
    return drawn(64, image=(1, 8, 8, 3))


def test_what_is_kept_is_told_in_the_result_and_the_manifest(
    monkeypatch, tiny_model_bytes, tiny_samples, tmp_path
):
    def quantized_badly(model, table, **_):
        made = quantize(model, table)
        return replace(made, model=with_moved_biases(made.model, 0.1))

    monkeypatch.setattr(edgeq.build.forms, "quantize", quantized_badly)
    result = build(tiny_model_bytes, from_list(tiny_samples), tmp_path / "b", TINY)
    told = json.loads(json.dumps(result.as_dict()))
    assert BIAS_CORRECTION in told["refined"]
    assert told["refined_db"] > 3.0
    assert told["refinements"]["none"] < max(told["refinements"].values()) - 3.0
    assert list(Bundle.open(tmp_path / "b").manifest.refined) == told["refined"]


def test_a_correction_that_makes_it_worse_is_not_kept(
    monkeypatch, tiny_model_bytes, tiny_samples, tmp_path
):
    def corrected_badly(model, int8, samples, **options):
        return with_moved_biases(correct_biases(model, int8, samples, **options), 0.5)

    monkeypatch.setattr(edgeq.build.layers, "correct_biases", corrected_badly)
    source = from_list(tiny_samples)
    result = build(tiny_model_bytes, source, tmp_path / "b", TINY)
    assert (result.refined, result.refined_db) == ((), 0.0)
    assert "refine" in result.stages
    plain = build(
        tiny_model_bytes, source, tmp_path / "c",
        BuildOptions(method="max", refine=False, verify=OPEN_GATE),
    )  # fmt: skip
    assert result.bundle.read("int8.tflite") == plain.bundle.read("int8.tflite")


@pytest.mark.parametrize("error", [EngineError("no such kernel"), None])
def test_a_model_that_cannot_be_corrected_is_built_as_it_is(
    error, monkeypatch, tiny_model_bytes, tiny_samples, tmp_path
):
    def refuse(*_, **__):
        if error is not None:
            raise error

    monkeypatch.setattr(edgeq.build.layers, "correct_biases", refuse)
    result = build(tiny_model_bytes, from_list(tiny_samples), tmp_path / "b", TINY)
    assert result.refined == ()


def test_refine_can_be_left_out(tiny_model_bytes, tiny_samples, tmp_path):
    options = BuildOptions(refine=False, verify=OPEN_GATE)
    result = build(tiny_model_bytes, from_list(tiny_samples), tmp_path / "b", options)
    assert result.refined == ()
    assert "refine" not in result.stages


def test_only_fit_samples_are_corrected_on(monkeypatch, tiny_model_bytes, tiny_samples, tmp_path):
    given: list[dict[str, tiny.Array]] = []

    def watched(model, int8, samples, **options):
        given.extend(samples)
        return correct_biases(model, int8, samples, **options)

    monkeypatch.setattr(edgeq.build.layers, "correct_biases", watched)
    build(tiny_model_bytes, from_list(tiny_samples), tmp_path / "b", TINY)
    fit = split_samples(from_list(tiny_samples), TINY.held_out_ratio).fit
    expected = sorted((s for s in tiny_samples if s.id in fit), key=lambda s: s.id)
    assert len(given) % len(expected) == 0
    for actual, wanted in zip(given[: len(expected)], expected, strict=True):
        np.testing.assert_array_equal(actual["image"], wanted.inputs["image"])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_samples_does_not_matter(seed, tiny_model_bytes, tiny_samples, tmp_path):
    order = np.random.default_rng(seed).permutation(len(tiny_samples))
    shuffled = [tiny_samples[i] for i in order]
    first = build(tiny_model_bytes, from_list(tiny_samples), tmp_path / "a", TINY)
    second = build(tiny_model_bytes, from_list(shuffled), tmp_path / "b", TINY)
    assert second.refined == first.refined
    assert second.refined_db == first.refined_db
    assert second.bundle.read("int8.tflite") == first.bundle.read("int8.tflite")


def test_candidates_are_kept_as_they_were_before(tiny_model_bytes, tiny_samples, tmp_path):
    kept: dict[str, bytes] = {}
    options = BuildOptions(verify=OPEN_GATE)
    result = build(
        tiny_model_bytes, from_list(tiny_samples), tmp_path / "b", options, keep=kept.__setitem__
    )
    assert {f"int8.{method}.tflite" for method in AUTO_METHODS} <= set(kept)
    same = kept["int8.tflite"] == kept[f"int8.{result.method}.tflite"]
    assert same is (result.refined == ())
    assert Model.from_bytes(kept["int8.tflite"]).operators


def test_a_manifest_from_before_refinement_is_read():
    values = {
        "name": "m", "engine": "cpu-int8", "backend": "cpu", "method": "max",
        "model_sha256": "", "samples": 1, "runtime": "", "edgeq": "", "created": 0.0,
        "float_ops": [], "format": 1, "files": {},
    }  # fmt: skip
    assert Manifest.from_json(json.dumps(values).encode()).refined == ()


# ---- every refinement


@pytest.fixture(scope="module")
def equalized(tmp_path_factory) -> BuildResult:
    samples = drawn(64, x=(1, 6, 6, 3))
    options = BuildOptions(method="max", verify=OPEN_GATE)
    out = tmp_path_factory.mktemp("equalized") / "b"
    return build(unequal().to_bytes(), from_list(samples), out, options)


def test_equalization_is_kept_where_channels_are_unequal(equalized):
    assert equalized.refined[:2] == (EQUALIZATION, BIAS_CORRECTION)
    scores = equalized.refinements
    assert scores["+".join(equalized.refined)] == max(scores.values())
    assert equalized.refined_db == pytest.approx(max(scores.values()) - scores["none"], abs=1e-3)


def test_the_bundle_tells_the_given_model_s_ranges_and_the_equalized_one_s(equalized):
    bundle = Bundle.open(equalized.bundle.directory)
    given = CalibrationTable.from_json(bundle.read("calibration.json")).tensors
    used = CalibrationTable.from_json(bundle.read("equalized.json")).tensors
    assert given.keys() == used.keys()
    assert given["x"] == used["x"]
    assert given["first"] != used["first"]
    int8 = Model.from_bytes(bundle.read("int8.tflite"))
    parameters = int8.quantization(int8.names().index("first_int8"))
    assert float(parameters.scale[0]) * 255 == pytest.approx(used["first"].hi, rel=1e-5)


def test_ops_are_kept_float_in_the_equalized_model_too(tmp_path):
    samples = drawn(64, x=(1, 6, 6, 3))
    gate = VerifyOptions(cosine=0.0, sqnr_db=34.0, task="regression")
    options = BuildOptions(method="max", verify=gate)
    result = build(unequal().to_bytes(), from_list(samples), tmp_path / "b", options)
    assert EQUALIZATION in result.refined
    assert 1 <= len(result.float_ops) < 3
