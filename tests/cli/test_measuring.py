from __future__ import annotations

import json

import numpy as np
import pytest

from edgeq.engines.table import load_float
from tests import tiny


@pytest.fixture(scope="session")
def scored_by_hand(model, labelled):
    """Top-1 of the float model over the labelled data."""
    engine = load_float(model.read_bytes())
    (spec,), (output,) = engine.inputs, engine.outputs
    with np.load(labelled) as arrays:
        tops = [
            engine.infer({spec.name: x[np.newaxis].astype(np.float32)})[output.name].argmax()
            for x in arrays["x"]
        ]
        return float((np.array(tops) == arrays["y"]).mean())


# ---- eval


def test_eval_tells_accuracy_and_fidelity(edgeq, bundle, labelled, scored_by_hand):
    result = edgeq("eval", bundle, "--data", labelled, "--json").json
    assert set(result) == {
        "samples", "top1_float", "top1_int8", "agreement", "sqnr_db", "cosine", "outputs",
    }  # fmt: skip
    assert result["samples"] == 100
    assert result["top1_float"] == scored_by_hand
    assert abs(result["top1_int8"] - result["top1_float"]) <= 0.02
    assert result["agreement"] >= 0.98
    assert result["sqnr_db"] > 20
    assert result["cosine"] > 0.99


def test_a_person_gets_the_same_figures(edgeq, bundle, labelled, scored_by_hand):
    lines = edgeq("eval", bundle, "--data", labelled).out.splitlines()
    assert ["top1_float", str(scored_by_hand)] in [line.split() for line in lines]


@pytest.mark.parametrize("engine", ["float", "int8"])
def test_one_engine_is_evaluated_alone(engine, edgeq, bundle, labelled):
    result = edgeq("eval", bundle, "--data", labelled, "--engine", engine, "--json").json
    assert set(result) == {"samples", f"top1_{engine}"}


def test_a_model_file_is_what_it_is(edgeq, model, bundle, labelled):
    assert "top1_float" in edgeq("eval", model, "--data", labelled, "--json").json
    int8 = bundle / "int8.tflite"
    assert "top1_int8" in edgeq("eval", int8, "--data", labelled, "--json").json
    ran = edgeq("eval", model, "--data", labelled, "--engine", "int8")
    assert ran.code == 2
    assert "holds no int8 model" in ran.err


def test_data_without_labels_tells_the_fidelity_alone(edgeq, bundle, labelled, tmp_path):
    with np.load(labelled) as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"])
    result = edgeq("eval", bundle, "--data", tmp_path / "x.npz", "--json").json
    assert not any(key.startswith("top1") for key in result)
    assert result["agreement"] >= 0.98  # a softmax shows that it is one


def test_labels_of_a_regression_are_no_classes(edgeq, bundle, labelled, tmp_path):
    with np.load(labelled) as arrays:
        np.savez(tmp_path / "r.npz", x=arrays["x"], y=arrays["y"].astype(np.float32) / 3)
    result = edgeq("eval", bundle, "--data", tmp_path / "r.npz", "--json").json
    assert "top1_float" not in result


def test_labels_may_stand_in_a_column(edgeq, bundle, labelled, tmp_path, scored_by_hand):
    with np.load(labelled) as arrays:
        np.savez(tmp_path / "c.npz", x=arrays["x"], y=arrays["y"].reshape(-1, 1))
    result = edgeq("eval", bundle, "--data", tmp_path / "c.npz", "--json").json
    assert result["top1_float"] == scored_by_hand


def test_several_outputs_are_told_one_by_one(edgeq, tmp_path):
    g = tiny.GraphBuilder({"a": (1, 8)})
    first = g.op("RELU", g.inputs, ("first", (1, 8)))
    second = g.op("TANH", g.inputs, ("second", (1, 8)))
    (tmp_path / "m.tflite").write_bytes(g.finish(first, second).to_bytes())
    (tmp_path / "s").mkdir()
    draw = np.random.default_rng(0)
    data = draw.normal(size=(20, 8)).astype(np.float32)
    np.savez(tmp_path / "s" / "a.npz", a=data)
    np.savez(tmp_path / "data.npz", a=data, y=np.zeros(20, np.int64))
    built = ["build", tmp_path / "m.tflite", "--samples", tmp_path / "s", "--out", tmp_path / "b"]
    assert edgeq(*built).code == 0
    result = edgeq("eval", tmp_path / "b", "--data", tmp_path / "data.npz", "--json").json
    assert "top1_float" not in result  # which of the outputs would it be
    assert [output["name"] for output in result["outputs"]] == ["first", "second"]
    assert result["sqnr_db"] == min(output["sqnr_db"] for output in result["outputs"])


@pytest.mark.parametrize("count", [99, 101])
def test_as_many_labels_as_samples_are_needed(count, edgeq, bundle, labelled, tmp_path):
    with np.load(labelled) as arrays:
        labels = np.resize(arrays["y"], count)
        np.savez(tmp_path / "d.npz", x=arrays["x"], y=labels)
    ran = edgeq("eval", bundle, "--data", tmp_path / "d.npz", "--json")
    assert ran.code == 1
    assert ran.json["error"] == f"y holds {count} labels for 100 samples"


def test_no_sample_is_no_result(edgeq, bundle, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((0, 16, 16, 1), np.float32), y=np.zeros(0, np.int64))
    ran = edgeq("eval", bundle, "--data", tmp_path / "d.npz")
    assert ran.code == 1
    assert "holds no sample" in ran.err


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 torn"])
def test_data_that_cannot_be_read_says_so(content, edgeq, bundle, tmp_path):
    (tmp_path / "d.npz").write_bytes(content)
    ran = edgeq("eval", bundle, "--data", tmp_path / "d.npz", "--json")
    assert ran.code == 1
    assert ran.json["kind"] == "SampleError"
    assert ran.json["hint"]


def test_pickled_labels_are_never_loaded(edgeq, bundle, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((1, 16, 16, 1)), y=np.array([{}], dtype=object))
    ran = edgeq("eval", bundle, "--data", tmp_path / "d.npz", "--json")
    assert (ran.code, ran.json["kind"]) == (1, "SampleError")


def test_missing_data_or_target_is_bad_usage(edgeq, bundle, labelled, tmp_path):
    assert edgeq("eval", bundle, "--data", tmp_path / "no.npz").code == 2
    assert edgeq("eval", tmp_path / "no", "--data", labelled).code == 2
    assert edgeq("eval", tmp_path, "--data", labelled).code == 1  # a folder, but no bundle


# ---- bench


def test_bench_times_both_in_turns_and_tells_their_ratio(edgeq, bundle):
    result = edgeq("bench", bundle, "--seconds", "0.1", "--json").json
    assert set(result) == {"float", "int8", "threads", "ratio"}
    for name in ("float", "int8"):
        figure = result[name]
        assert 0 < figure["p50_ms"] <= figure["p90_ms"] <= figure["p99_ms"]
    assert result["float"]["runs"] == result["int8"]["runs"]
    assert result["ratio"] == pytest.approx(
        result["int8"]["p50_ms"] / result["float"]["p50_ms"], abs=1e-4
    )


def test_bench_takes_a_model_one_engine_and_threads(edgeq, model, bundle):
    flags = ["--seconds", "0.05", "--json"]
    result = edgeq("bench", model, "--threads", "2", *flags).json
    assert (set(result), result["threads"]) == ({"float", "threads", "ratio"}, 2)
    assert result["ratio"] is None
    assert "int8" in edgeq("bench", bundle, "--engine", "int8", *flags).json


def test_bench_tells_a_person_what_int8_saves(edgeq, bundle):
    out = edgeq("bench", bundle, "--seconds", "0.05").out
    assert out.splitlines()[0].split() == ["engine", "p50", "ms", "p90", "ms", "p99", "ms", "runs"]
    assert "INT8 takes " in out


def test_a_bundle_of_a_model_that_came_as_int8_has_no_float_figure(
    edgeq, bundle, samples, tmp_path
):
    built = ["build", bundle / "int8.tflite", "--samples", samples, "--out", tmp_path / "b"]
    assert edgeq(*built).code == 0
    assert json.loads((tmp_path / "b" / "manifest.json").read_bytes())["method"] == "as-is"
    result = edgeq("bench", tmp_path / "b", "--seconds", "0.05", "--json").json
    assert "float" not in result
    assert edgeq("bench", tmp_path / "b", "--engine", "float").code == 2


@pytest.mark.parametrize(
    ("flag", "value"), [("--threads", "0"), ("--seconds", "0"), ("--engine", "gpu")]
)
def test_an_impossible_value_is_bad_usage(flag, value, edgeq, bundle):
    ran = edgeq("bench", bundle, flag, value)
    assert (ran.code, ran.out) == (2, "")
    assert f"argument {flag}" in ran.err
