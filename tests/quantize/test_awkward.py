"""Awkward models, all the way: built, close to float, with float islands where INT8 ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.pipeline import build
from edgeq.calibrate.collect import collect
from edgeq.errors import CalibrationError, EngineError, QuantizeError
from edgeq.quantize.prepare import check_stateless
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests.build_samples import from_list, sample
from tests.quantize import awkward, joined
from tests.tiny import Array

LEAST_DB = 20.0  # of small nets over a few samples of noise


def _build(model: Model, samples: list[Sample], folder: Path) -> BuildResult:
    return build(model.to_bytes(), from_list(samples), folder / "b", BuildOptions())


def _int8(result: BuildResult) -> Model:
    model = Model.from_bytes(result.bundle.read("int8.tflite"))
    check_structure(model)
    return model


def _float_names(result: BuildResult) -> list[str]:
    return [op.name for op in result.float_ops]


def _decibels(expected: Array, actual: Array) -> float:
    noise = float(((expected - actual).astype(float) ** 2).sum())
    return (
        np.inf if noise == 0 else 10 * np.log10(float((expected.astype(float) ** 2).sum()) / noise)
    )


@pytest.mark.parametrize("name", awkward.MODELS)
def test_an_awkward_model_is_built_and_answers_as_float_does(name: str, tmp_path: Path) -> None:
    model = awkward.MODELS[name]()
    samples = awkward.samples(model)
    int8 = _int8(_build(model, samples, tmp_path))
    runners = Runner(model.to_bytes()), Runner(int8.to_bytes())
    assert (runners[0].inputs, runners[0].outputs) == (runners[1].inputs, runners[1].outputs)
    answers = [[runner.run(each.inputs) for each in samples] for runner in runners]
    for output in runners[0].outputs:
        expected, actual = (np.stack([a[output.name] for a in group]) for group in answers)
        assert _decibels(expected, actual) > LEAST_DB, output.name


@pytest.mark.parametrize(
    ("name", "float_ops"),
    [
        ("conditional", ["IF"]),
        ("loop", ["WHILE"]),
        ("lstm", ["UNIDIRECTIONAL_SEQUENCE_LSTM"]),
        ("nothing in a tensor", ["CONCATENATION"]),
        ("integer input", ["CAST"]),
        ("int8 input", ["DEQUANTIZE"]),
        ("embedding", []),
        ("one place", []),
        ("bilinear tail", []),
    ],
)
def test_what_has_no_int8_form_is_an_island(
    name: str, float_ops: list[str], tmp_path: Path
) -> None:
    model = awkward.MODELS[name]()
    result = _build(model, awkward.samples(model), tmp_path)
    assert _float_names(result) == float_ops
    assert all(op.reason for op in result.float_ops)


def test_a_model_with_an_int8_island_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    model = awkward.int8_island()
    result = _build(model, awkward.samples(model), tmp_path)
    assert result.method == "as-is"
    assert result.bundle.read("int8.tflite") == model.to_bytes()


# ---- state


def test_every_run_of_an_lstm_starts_from_the_same_state() -> None:
    model = awkward.lstm()
    runner, (first, second, *_) = Runner(model.to_bytes()), awkward.samples(model)
    once = runner.run(first.inputs)
    runner.run(second.inputs)
    again = runner.run(first.inputs)
    for name, values in once.items():
        np.testing.assert_array_equal(values, again[name])


def test_the_order_of_the_sequences_is_no_matter_to_an_lstm() -> None:
    model = awkward.lstm()
    samples = awkward.samples(model)
    forth, back = collect(model, samples), collect(model, samples[::-1])
    assert forth.histograms == back.histograms


def test_a_model_that_keeps_what_it_saw_is_refused(tmp_path: Path) -> None:
    model = awkward.running_sum()
    with pytest.raises(QuantizeError, match=r"op 4 \(ASSIGN_VARIABLE\) keeps state") as caught:
        _build(model, awkward.samples(model), tmp_path)
    assert "inputs and outputs" in caught.value.hint


def test_a_variable_that_is_only_read_is_no_state() -> None:
    model = awkward.running_sum()
    del model.operators[4]
    check_stateless(model)


# ---- signatures


def _by_signature(content: bytes, key: str, **inputs: Array) -> dict[str, Array]:
    runner = Interpreter(model_content=content).get_signature_runner(key)
    answers: dict[str, Array] = runner(**inputs)
    return answers


def test_every_signature_still_runs_under_its_names(tmp_path: Path) -> None:
    model = awkward.signatures()
    samples = awkward.samples(model)
    int8 = _build(model, samples, tmp_path).bundle.read("int8.tflite")
    image = next(iter(samples[0].inputs.values()))
    row = np.array([[-1, 0, 0.5, 2]], np.float32)
    for key, given in (
        ("serving_default", {"image": image}), ("logits", {"image": image}), ("tanh", {"in": row})
    ):  # fmt: skip
        expected, actual = (_by_signature(c, key, **given) for c in (model.to_bytes(), int8))
        assert set(actual) == set(expected)
        for name, values in expected.items():
            assert np.abs(values - actual[name]).max() < 0.1 * np.abs(values).max()


# ---- NaN


def test_samples_that_give_nan_inside_are_dropped_and_named(tmp_path: Path) -> None:
    model = awkward.logarithm()
    good, bad = awkward.samples(model, positive=True), awkward.samples(model, 4)
    result = _build(model, [*good, *bad], tmp_path)
    assert {each.id for each in result.dropped} <= {each.id for each in bad}
    assert all("NaN or infinity" in each.reason for each in result.dropped)
    assert _float_names(result) == ["LOG"]


def test_samples_that_all_give_nan_inside_are_refused(tmp_path: Path) -> None:
    model = awkward.logarithm()
    with pytest.raises(CalibrationError, match="NaN or infinity") as caught:
        _build(model, awkward.samples(model), tmp_path)
    assert caught.value.hint


# ---- custom ops


def test_a_custom_op_that_the_runtime_lacks_is_refused_by_its_name(tmp_path: Path) -> None:
    samples = awkward.samples(awkward.float16_weights())
    with pytest.raises(EngineError, match="unresolved custom op: MyOp") as caught:
        _build(awkward.custom_op("MyOp"), samples, tmp_path)
    assert caught.value.hint
    assert not any(tmp_path.iterdir())


def test_a_custom_op_that_the_runtime_has_stays_float(tmp_path: Path) -> None:
    """And where it sorts detections, boxes and scores are judged before."""
    model = joined.with_suppression()
    samples = [sample(**given) for given in joined.inputs(24)]
    result = _build(model, samples, tmp_path)
    assert _float_names(result) == ["CUSTOM:TFLite_Detection_PostProcess"]
    assert [output.name for output in result.verdict.outputs] == ["boxes", "scores"]
    runners = Runner(model.to_bytes()), Runner(_int8(result).to_bytes())
    expected, actual = (runner.run(joined.inputs(1, first=50)[0]) for runner in runners)
    assert set(actual) == set(expected)
    assert np.abs(expected["best_scores"] - actual["best_scores"]).max() < 0.03


@pytest.mark.parametrize(
    ("net", "float_ops"),
    [
        (joined.detector, ["CONCATENATION", "TRANSPOSE"]),
        (joined.skip_connection, []),
        (lambda: joined.inception(300.0), ["CONCATENATION", "CONV_2D"]),
    ],
    ids=["detector", "skip connection", "branch that the union erases"],
)
def test_nets_that_join_unlike_ranges_are_built(
    net: Callable[[], Model], float_ops: list[str], tmp_path: Path
) -> None:
    """The last by measurement: the gate refuses the union, and the reader costs most."""
    samples = [sample(**given) for given in joined.inputs(24)]
    result = _build(net(), samples, tmp_path)
    assert _float_names(result) == float_ops
    assert min(output.sqnr_db for output in result.verdict.outputs) > LEAST_DB
