from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CalibrationError
from edgeq.quantize.convert import quantize
from edgeq.quantize.sensitivity import (
    MAX_RUNS,
    MAX_SAMPLES,
    MIN_SAMPLES,
    OpNoise,
    float_ops_to_pass,
    op_noise,
    sample_count,
)
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from edgeq.tflite.structure import check_structure
from tests import tiny
from tests.build_samples import drawn, sample
from tests.quantize.minmax import minmax_table
from tests.quantize.sensitive import chain, dead_channel_samples
from tests.shared_models import calibration_samples, shared_tasks


def sqnr_db(model: Model, candidate: Model, samples: list[Sample]) -> float:
    float_runner, runner = Runner(model.to_bytes()), Runner(candidate.to_bytes())
    (name,) = (spec.name for spec in runner.outputs)
    signal = noise = 0.0
    for each in samples:
        expected, actual = (r.run(each.inputs)[name].ravel() for r in (float_runner, runner))
        signal += float(expected @ expected)
        noise += float(np.square(expected - actual).sum())
    return 10 * math.log10(signal / noise)


# ---- the ranking


@pytest.mark.parametrize("position", [0, 2, 3])
def test_the_op_whose_weights_lose_their_steps_comes_first(position):
    model, samples = chain(huge_weight_at=position), dead_channel_samples()
    table = minmax_table(model, [s.inputs for s in samples])
    worst, second, *_ = op_noise(model, table, samples)
    assert (worst.index, worst.name) == (position, "CONV_2D")
    assert worst.sqnr_db < second.sqnr_db - 10


def test_a_wide_depthwise_channel_is_found_at_its_writer_and_its_reader():
    model, samples = chain(wide_channel=300.0), dead_channel_samples()
    # The wide channel itself must not reach the output, or its own size hides the noise.
    weights = int(model.operators[2].inputs[1])
    kernel = np.array(model.constant(weights))
    kernel[..., 0] = 0.0
    model.tensors[weights].buffer = model.add_buffer(kernel)
    table = minmax_table(model, [s.inputs for s in samples])
    first, second, third, _ = op_noise(model, table, samples)
    assert {first.index, second.index} == {1, 2}
    assert max(first.sqnr_db, second.sqnr_db) < third.sqnr_db - 10


def test_every_computing_op_is_ranked_and_ops_that_move_data_are_not(tiny_model_bytes):
    model = Model.from_bytes(tiny_model_bytes)
    samples = drawn(4, image=(1, 8, 8, 3))
    ranking = op_noise(model, minmax_table(model, [s.inputs for s in samples]), samples)
    names = [model.op_name(operator) for operator in model.operators]
    free = {"RESHAPE", "RELU"}  # one moves integers, the other is where they saturate
    assert sorted(op.index for op in ranking) == [i for i, n in enumerate(names) if n not in free]
    assert [op.name for op in ranking] == [names[op.index] for op in ranking]
    assert [op.noise for op in ranking] == sorted((op.noise for op in ranking), reverse=True)


def test_the_order_of_the_samples_is_no_matter():
    model, samples = chain(huge_weight_at=2), dead_channel_samples(20)
    table = minmax_table(model, [s.inputs for s in samples])
    assert op_noise(model, table, samples) == op_noise(model, table, iter(samples[::-1]))


def test_positions_are_those_of_the_given_model_where_ops_are_folded_away():
    model = chain(huge_weight_at=2)
    weights = int(model.operators[3].inputs[1])
    half = np.asarray(model.constant(weights)).astype(np.float16)
    source = model.add_tensor("half", half.shape, "FLOAT16", values=half)
    model.tensors[weights].buffer = 0
    model.operators.insert(0, model.make_operator("DEQUANTIZE", 2, [source], [weights]))
    samples = dead_channel_samples()
    table = minmax_table(model, [s.inputs for s in samples])
    ranking = op_noise(model, table, samples)
    assert ranking[0].index == 3
    assert sorted(op.index for op in ranking) == [1, 2, 3, 4]


def test_a_softmax_that_is_sure_does_not_hide_the_noise_before_it():
    model, samples = chain_with_softmax(chain(huge_weight_at=2)), dead_channel_samples()
    table = minmax_table(model, [s.inputs for s in samples])
    ranking = op_noise(model, table, samples)
    assert ranking[0].index == 2
    assert (ranking[-1].name, ranking[-1].noise) == ("SOFTMAX", 0.0)


def chain_with_softmax(model: Model) -> Model:
    """The chain, then a softmax over its channels so steep that one class has it all."""
    copy = model.copy()
    (source,) = copy.outputs
    scores = copy.add_tensor("scores", copy.shape(source), "FLOAT32")
    operator = copy.make_operator("SOFTMAX", 1, [source], [scores])
    operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    operator.builtinOptions = schema.SoftmaxOptionsT()
    operator.builtinOptions.beta = 100.0
    copy.operators.append(operator)
    copy.graph.outputs = np.array([scores], np.int32)
    return copy.copy()


def test_noise_at_any_output_counts():
    g = tiny.GraphBuilder({"x": (1, 4)})
    scale = g.constant("scale", np.array([2.0, 2.0, 2.0, 2.0], np.float32))
    y = g.op("MUL", [0, scale], ("y", (1, 4)), options="MulOptions")
    z = g.op("LOGISTIC", [y], ("z", (1, 4)))
    model, samples = g.finish(y, z), drawn(6, x=(1, 4))
    by_name = {op.name: op for op in op_noise(
        model, minmax_table(model, [s.inputs for s in samples]), samples)}  # fmt: skip
    assert by_name["MUL"].noise > 0
    assert by_name["LOGISTIC"].noise > 0


def test_an_output_that_is_nan_in_float_says_nothing():
    g = tiny.GraphBuilder({"x": (1, 4)})
    doubled = g.op("ADD", [0, 0], ("doubled", (1, 4)), options="AddOptions")
    root = g.op("SQRT", [doubled], ("root", (1, 4)))
    model, samples = g.finish(root), drawn(6, x=(1, 4))
    (op,) = op_noise(model, minmax_table(model, [s.inputs for s in samples]), samples)
    assert op.name == "ADD"


def test_an_output_that_only_int8_makes_infinite_is_endless_noise():
    g = tiny.GraphBuilder({"x": (1, 4)})
    doubled = g.op("ADD", [0, 0], ("doubled", (1, 4)), options="AddOptions")
    model = g.finish(g.op("LOG", [doubled], ("log", (1, 4))))
    samples = [sample(x=np.array([[1e-6, 1.0, 2.0, 3.0]], np.float32))]
    (op,) = op_noise(model, minmax_table(model, [s.inputs for s in samples]), samples)
    assert (op.name, op.noise, op.sqnr_db) == ("ADD", math.inf, -200.0)


def test_decibels_stay_finite():
    assert [OpNoise(0, "RELU", noise).sqnr_db for noise in (0.0, 0.01, math.inf)] == [
        200.0, pytest.approx(20.0), -200.0,
    ]  # fmt: skip


def test_without_a_sample_it_says_what_to_do(tiny_model_bytes):
    model = Model.from_bytes(tiny_model_bytes)
    table = minmax_table(model, [tiny.tiny_inputs()])
    with pytest.raises(CalibrationError, match="no sample") as caught:
        op_noise(model, table, [])
    assert caught.value.hint


@pytest.mark.parametrize(("ops", "samples"), [(2, MAX_SAMPLES), (64, 4), (1000, MIN_SAMPLES)])
def test_more_ops_take_fewer_samples(ops, samples):
    assert sample_count(ops) == samples
    assert ops * sample_count(ops) <= max(MAX_RUNS, ops * MIN_SAMPLES)


def test_a_model_without_int8_ops_has_nothing_to_rank():
    model, samples = tiny.one_op_model("SIN"), drawn(2, x=(1, 4))
    table = minmax_table(model, [s.inputs for s in samples])
    assert op_noise(model, table, samples) == ()


# ---- the search


def _ranking(count: int) -> list[OpNoise]:
    return [OpNoise(100 - i, "RELU", 1.0 / (i + 1)) for i in range(count)]


@given(st.integers(1, 200), st.data())
def test_the_fewest_of_the_worst_ops_that_pass_are_returned(count, data):
    needed = data.draw(st.integers(1, count))
    ranking, asked = _ranking(count), []

    def passes(float_ops: frozenset[int]) -> bool:
        asked.append(float_ops)
        return len(float_ops) >= needed

    assert float_ops_to_pass(ranking, passes) == {op.index for op in ranking[:needed]}
    assert len(asked) == len(set(asked)) <= 2 * math.log2(needed) + 2


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_what_is_returned_has_passed_even_where_more_float_can_undo_it(count, seed):
    draw, answers = np.random.default_rng(seed), {}

    def passes(float_ops: frozenset[int]) -> bool:
        return answers.setdefault(float_ops, bool(draw.random() < 0.3))

    found = float_ops_to_pass(_ranking(count), passes)
    assert answers[found] if found is not None else not any(answers.values())


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_none_where_even_all_do_not_pass(count):
    assert float_ops_to_pass(_ranking(count), lambda float_ops: False) is None


# ---- both together


def test_one_bad_op_kept_float_brings_the_model_back():
    model, samples = chain(huge_weight_at=2), dead_channel_samples()
    table = minmax_table(model, [s.inputs for s in samples])
    assert sqnr_db(model, quantize(model, table).model, samples) < 15

    def passes(float_ops: frozenset[int]) -> bool:
        return sqnr_db(model, quantize(model, table, float_ops=float_ops).model, samples) > 25

    assert float_ops_to_pass(op_noise(model, table, samples), passes) == {2}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_islands_are_valid_and_run_on_both_kinds_of_kernels(count, tiny_model_bytes):
    model = Model.from_bytes(tiny_model_bytes)
    samples = drawn(8, image=(1, 8, 8, 3))
    table = minmax_table(model, [s.inputs for s in samples])
    ranking = op_noise(model, table, samples)
    mixed = quantize(model, table, float_ops=frozenset(op.index for op in ranking[:count]))
    check_structure(mixed.model)
    assert mixed.int8_ops > 0
    assert {op.index for op in mixed.float_ops} >= {op.index for op in ranking[:count]}
    content = mixed.model.to_bytes()
    delegated, plain = Runner(content), Runner(content, delegate=False)
    for each in samples:
        by_delegate, by_plain = (r.run(each.inputs)["scores"] for r in (delegated, plain))
        np.testing.assert_allclose(by_delegate, by_plain, atol=2.5 / 256)


@pytest.mark.shared
def test_mobilenet_s_depthwise_is_found_and_a_few_float_ops_raise_its_sqnr(shared: Path):
    task = shared_tasks(shared)["mobilenet_v1_025_224"]
    model = Model.read(shared / "data" / task["model"])
    samples = calibration_samples(shared, task, 24)
    table = minmax_table(model, [s.inputs for s in samples[:16]])
    ranking, apart = op_noise(model, table, samples[:16]), samples[16:]
    assert ranking[0].name == "DEPTHWISE_CONV_2D"
    assert ranking[0].sqnr_db < ranking[1].sqnr_db - 2
    before = sqnr_db(model, quantize(model, table).model, apart)

    def passes(float_ops: frozenset[int]) -> bool:
        mixed = quantize(model, table, float_ops=float_ops).model
        return sqnr_db(model, mixed, apart) > before + 2

    found = float_ops_to_pass(ranking, passes)
    assert found is not None
    assert 1 <= len(found) <= len(ranking) // 2
