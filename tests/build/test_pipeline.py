from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgeq.build.forms import AUTO_METHODS
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.bundle import Bundle, Golden
from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable, histograms_from_npz
from edgeq.drift.reference import DriftReference
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import (
    BundleError,
    CalibrationError,
    EngineError,
    GateError,
    QuantizeError,
    StructureError,
)
from edgeq.files import sha256_bytes
from edgeq.samples.split import only, split_samples
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.verify import VerifyOptions
from tests import tiny
from tests.build_samples import drawn, from_list, sample

CONTRACT_KEYS = {
    "bundle", "backend", "method", "tensors", "samples", "float_ops", "verdict", "stages",
    "refined", "refined_db",
}  # fmt: skip
BUNDLE_FILES = {
    "float.tflite", "int8.tflite", "calibration.json", "calibration.npz", "verdict.json",
    "golden.npz", "drift.npz", "explain.json", "build.json", "report.html",
}  # fmt: skip

EQUALIZED_FILES = {"equalized.json", "equalized.npz"}  # where that is closer to float


@pytest.fixture(scope="module")
def built(digits_model, digits_samples, tmp_path_factory) -> BuildResult:
    out = tmp_path_factory.mktemp("built") / "digits.bundle"
    return build(digits_model, from_list(digits_samples), out, BuildOptions(name="digits"))


# ---- what comes out


@pytest.mark.parametrize("method", ["entropy", "entropy-unguarded", "percentile", "mse", "max"])
def test_every_method_builds_a_bundle_that_passes(method, digits_model, digits_samples, tmp_path):
    options = BuildOptions(method=method)
    result = build(digits_model, from_list(digits_samples), tmp_path / "b", options)
    assert result.method == method
    assert result.verdict.passed
    assert result.verdict.agreement == 1.0
    assert result.candidates == {}
    table = CalibrationTable.from_json(result.bundle.read("calibration.json"))
    assert table.method == method
    assert set(result.bundle.manifest.files) - EQUALIZED_FILES == BUNDLE_FILES


def test_auto_takes_the_method_with_the_best_fidelity(built):
    assert set(built.candidates) == set(AUTO_METHODS)
    assert built.candidates[built.method] == max(built.candidates.values())


def test_the_bundle_opens_and_holds_every_file(built):
    bundle = Bundle.open(built.bundle.directory)
    assert set(bundle.manifest.files) - EQUALIZED_FILES == BUNDLE_FILES
    assert json.loads(bundle.read("verdict.json"))["passed"] is True


def test_the_manifest_says_what_was_built(built, digits_model):
    manifest = built.bundle.manifest
    assert (manifest.name, manifest.engine, manifest.backend) == ("digits", "cpu-int8", "cpu")
    assert manifest.model_sha256 == sha256_bytes(digits_model)
    assert manifest.method == built.method
    assert (
        manifest.samples
        == CalibrationTable.from_json(built.bundle.read("calibration.json")).samples
    )


def test_the_json_result_has_the_keys_that_others_rely_on(built):
    result = json.loads(json.dumps(built.as_dict(), allow_nan=False))
    assert set(result) >= CONTRACT_KEYS
    assert result["samples"] == 64
    assert result["tensors"] == len(
        CalibrationTable.from_json(built.bundle.read("calibration.json")).tensors
    )
    assert all(seconds >= 0 for seconds in result["stages"].values())
    assert list(result["stages"]) == [
        "read", "calibrate", "quantize", "select", "refine", "engine", "verify", "latency",
        "explain", "bundle",
    ]  # fmt: skip


def test_the_golden_answers_hold_for_a_freshly_loaded_engine(built):
    golden = Golden.from_npz(built.bundle.read("golden.npz"))
    engine = CpuEngine(built.bundle.read("int8.tflite"), "cpu-int8", threads=1)
    assert len(golden.inputs) == 4
    assert golden.mismatch(engine.infer) == ""


def test_latency_is_measured_for_both_engines(built):
    assert [figure.engine for figure in built.latency] == ["float", "cpu-int8"]


def test_progress_names_every_stage_and_never_goes_back(digits_model, digits_samples, tmp_path):
    steps: list[tuple[str, int, int]] = []
    source = from_list(digits_samples[:16])
    result = build(
        digits_model, source, tmp_path / "b", BuildOptions(), lambda *step: steps.append(step)
    )
    assert list(dict.fromkeys(name for name, _, _ in steps)) == list(result.stages)
    for name in result.stages:
        done = [d for n, d, _ in steps if n == name]
        assert done == sorted(done)
    assert all(done <= total for _, done, total in steps if total)


def test_keep_gets_every_candidate_s_model_and_table(digits_model, digits_samples, tmp_path):
    kept: dict[str, bytes] = {}
    result = build(
        digits_model, from_list(digits_samples), tmp_path / "b", BuildOptions(refine=False),
        keep=kept.__setitem__,
    )  # fmt: skip
    assert set(kept) >= BUNDLE_FILES | {f"int8.{method}.tflite" for method in AUTO_METHODS}
    assert kept["int8.tflite"] == kept[f"int8.{result.method}.tflite"]


# ---- the same samples give the same bundle


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_samples_does_not_matter(
    seed, built, digits_model, digits_samples, tmp_path
):
    order = np.random.default_rng(seed).permutation(len(digits_samples))
    shuffled = [digits_samples[i] for i in order]
    again = build(digits_model, from_list(shuffled), tmp_path / "b", BuildOptions(name="digits"))
    assert again.method == built.method
    assert again.candidates == built.candidates
    assert again.verdict == built.verdict
    for name in ("int8.tflite", "calibration.json", "calibration.npz", "golden.npz"):
        assert again.bundle.read(name) == built.bundle.read(name), name


def test_a_sample_that_is_there_twice_counts_once(built, digits_model, digits_samples, tmp_path):
    twice = [*digits_samples, *digits_samples]
    again = build(digits_model, from_list(twice), tmp_path / "b", BuildOptions(name="digits"))
    assert again.samples == 64
    assert again.verdict.samples == built.verdict.samples
    assert again.bundle.read("int8.tflite") == built.bundle.read("int8.tflite")


def test_calibration_never_sees_a_held_out_sample(built, digits_model, digits_samples):
    source = from_list(digits_samples)
    split = split_samples(source, 0.25)
    assert built.verdict.samples == len(split.held_out) > 0
    counted = histograms_from_npz(built.bundle.read("calibration.npz"))
    of_fit = collect(Model.from_bytes(digits_model), only(source, split.fit)).histograms
    assert counted == of_fit


# ---- few, odd and vanishing samples


def test_two_samples_are_enough(digits_model, digits_samples, tmp_path):
    source = from_list(digits_samples[:2])
    result = build(digits_model, source, tmp_path / "b", BuildOptions())
    assert (result.samples, result.verdict.samples) == (2, 1)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_samples_say_what_to_do(count, digits_model, digits_samples, tmp_path):
    with pytest.raises(CalibrationError, match=f"there are {count} sample") as caught:
        build(digits_model, from_list(digits_samples[:count]), tmp_path / "b", BuildOptions())
    assert "Add samples" in caught.value.hint
    assert not any(tmp_path.iterdir())


def test_a_sample_with_nan_is_dropped_by_name(digits_model, digits_samples, tmp_path):
    (name,) = digits_samples[0].inputs
    broken = sample(**{name: np.full_like(digits_samples[0].inputs[name], np.nan)})
    source = from_list([*digits_samples[:32], broken])
    result = build(digits_model, source, tmp_path / "b", BuildOptions())
    assert result.samples == 32
    assert [(d.id, d.reason) for d in result.dropped] == [
        (broken.id, "an input holds NaN or infinity")
    ]


def test_a_frame_far_too_bright_is_left_out_of_calibration(digits_model, digits_samples, tmp_path):
    (name,) = digits_samples[0].inputs
    ids = split_samples(from_list(digits_samples), 0.25)
    glare = next(
        candidate
        for factor in range(20, 60)
        for candidate in [sample(**{name: digits_samples[0].inputs[name] * factor})]
        if candidate.id in split_samples(from_list([*digits_samples, candidate]), 0.25).fit
    )
    assert glare.id not in ids.all
    source = from_list([*digits_samples, glare])
    result = build(digits_model, source, tmp_path / "b", BuildOptions())
    assert [d.id for d in result.dropped] == [glare.id]
    assert "brighter" in result.dropped[0].reason
    assert result.samples == 64


class Vanishing:
    """A source whose samples of a set are gone after the first pass."""

    def __init__(self, samples: list[Sample], gone: frozenset[str]) -> None:
        self._samples, self._gone, self._passes = samples, gone, 0

    def __call__(self) -> Iterator[Sample]:
        self._passes += 1
        keeps_all = self._passes == 1
        return (s for s in self._samples if keeps_all or s.id not in self._gone)


def test_samples_for_the_choice_that_vanish_leave_the_first_method(
    digits_model, digits_samples, tmp_path
):
    split = split_samples(from_list(digits_samples), 0.25)
    source = Vanishing(digits_samples, split.select)
    result = build(digits_model, source, tmp_path / "b", BuildOptions())
    assert result.method == "entropy"
    assert result.candidates == {}


def test_held_out_samples_that_vanish_end_the_build(digits_model, digits_samples, tmp_path):
    split = split_samples(from_list(digits_samples), 0.25)
    source = Vanishing(digits_samples, split.held_out)
    with pytest.raises(CalibrationError, match="no held-out sample"):
        build(digits_model, source, tmp_path / "b", BuildOptions())
    assert not any(tmp_path.iterdir())


# ---- other models


def test_a_model_that_arrives_as_int8_keeps_its_own_scales(built, digits_samples, tmp_path):
    int8 = built.bundle.read("int8.tflite")
    again = build(int8, from_list(digits_samples), tmp_path / "b", BuildOptions())
    assert again.bundle.read("int8.tflite") == int8
    assert again.method == again.bundle.manifest.method == "as-is"
    assert again.verdict.passed
    assert (again.tensors, again.float_ops, again.candidates) == (0, (), {})
    assert not again.bundle.has("calibration.json")
    assert [figure.engine for figure in again.latency] == ["cpu-int8"]


def test_a_model_with_two_inputs_and_two_outputs_builds(tmp_path):
    g = tiny.GraphBuilder({"a": (1, 8), "b": (1, 8)})
    total = g.op("ADD", g.inputs, ("sum", (1, 8)), options="AddOptions")
    product = g.op("MUL", g.inputs, ("product", (1, 8)), options="MulOptions")
    content = g.finish(total, product).to_bytes()
    source = from_list(drawn(24, a=(1, 8), b=(1, 8)))
    result = build(content, source, tmp_path / "b", BuildOptions())
    assert [output.name for output in result.verdict.outputs] == ["sum", "product"]
    streams = DriftReference.from_npz(result.bundle.read("drift.npz")).streams
    kinds = {stream.name: stream.kind for stream in streams}
    assert kinds == {"a": "input", "b": "input", "sum": "output", "product": "output"}


def test_a_model_without_any_int8_op_says_so(tmp_path):
    content = tiny.one_op_model("SIN").to_bytes()
    with pytest.raises(QuantizeError, match=r"none of the model's 1 ops can be INT8 \(SIN: "):
        build(content, from_list(drawn(8, x=(1, 4))), tmp_path / "b", BuildOptions())
    assert not any(tmp_path.iterdir())


def test_a_cut_model_is_refused_before_any_runtime_sees_it(digits_model, digits_samples, tmp_path):
    half = digits_model[: len(digits_model) // 2]
    with pytest.raises(StructureError):
        build(half, from_list(digits_samples), tmp_path / "b", BuildOptions())


# ---- refusals leave nothing behind


def test_a_gate_that_cannot_pass_leaves_no_bundle(digits_model, digits_samples, tmp_path):
    kept: dict[str, bytes] = {}
    options = BuildOptions(verify=VerifyOptions(sqnr_db=500.0, task="regression"))
    source = from_list(digits_samples)
    with pytest.raises(GateError, match=r"SQNR .* dB; the gate asks for 500.0 dB") as caught:
        build(digits_model, source, tmp_path / "b", options, keep=kept.__setitem__)
    assert caught.value.hint
    assert not any(tmp_path.iterdir())
    verdict: dict[str, Any] = json.loads(kept["verdict.json"])
    assert verdict["passed"] is False
    assert "int8.entropy.tflite" in kept


def test_an_unusable_backend_is_refused_and_not_replaced(digits_model, digits_samples, tmp_path):
    options = BuildOptions(backend="cuda")
    with pytest.raises(EngineError, match="no usable backend for 'cuda': cuda: ") as caught:
        build(digits_model, from_list(digits_samples), tmp_path / "b", options)
    assert "doctor" in caught.value.hint
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_there_is_refused_before_the_work(digits_model, tmp_path):
    def untouched() -> Iterator[Sample]:
        raise AssertionError("the samples were read")

    with pytest.raises(BundleError, match="already there"):
        build(digits_model, untouched, tmp_path, BuildOptions())
