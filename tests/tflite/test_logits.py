from __future__ import annotations

import numpy as np

from edgeq.quantize.convert import quantize
from edgeq.tflite.logits import before_softmax, centered
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.quantize.minmax import minmax_table

SAMPLES = [tiny.tiny_inputs(seed) for seed in range(8)]


def int8_of(model: Model, *, float_ops: frozenset[int] = frozenset()) -> Model:
    return quantize(model, minmax_table(model, SAMPLES), float_ops=float_ops).model


def run(model: Model) -> dict[str, tiny.Array]:
    return Runner(model.to_bytes()).run(SAMPLES[0])


def softmax(values: tiny.Array) -> tiny.Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_float_and_int8_give_logits_under_one_name():
    model = tiny.tiny_model()
    (opened, opened_int8), logits = before_softmax([model, int8_of(model)])
    assert logits == {"scores/logits"}
    np.testing.assert_allclose(
        softmax(run(opened)["scores/logits"]), run(model)["scores"], atol=1e-5
    )
    np.testing.assert_allclose(
        softmax(run(opened_int8)["scores/logits"]), run(model)["scores"], atol=0.1
    )


def test_a_softmax_that_stays_float_is_opened_too():
    model = tiny.tiny_model()
    position = len(model.operators) - 1
    mixed = int8_of(model, float_ops=frozenset({position}))
    (_, opened), logits = before_softmax([model, mixed])
    assert logits == set(run(opened)) == {"scores/logits"}


def test_the_given_models_stay_as_they_were():
    model = tiny.tiny_model()
    before = model.to_bytes()
    before_softmax([model, int8_of(model)])
    assert model.to_bytes() == before


def test_a_model_without_softmax_keeps_its_outputs():
    model = tiny.one_op_model("RELU")
    (opened,), logits = before_softmax([model])
    assert logits == frozenset()
    assert [spec.name for spec in Runner(opened.to_bytes()).outputs] == ["y"]


def test_models_that_do_not_end_alike_come_back_as_they_are():
    first, second = tiny.tiny_model(), tiny.one_op_model("RELU")
    models, logits = before_softmax([first, second])
    assert logits == frozenset()
    assert models[0] is first
    assert models[1] is second


def test_logits_that_are_an_output_already_stay_one():
    g = tiny.GraphBuilder({"x": (1, 4)})
    logits = g.op("RELU", [0], ("logits", (1, 4)))
    scores = g.op("SOFTMAX", [logits], ("scores", (1, 4)), options="SoftmaxOptions", beta=1.0)
    (opened,), opened_names = before_softmax([g.finish(logits, scores)])
    assert opened_names == frozenset()
    assert [spec.name for spec in Runner(opened.to_bytes()).outputs] == ["logits", "scores"]


def test_only_logits_lose_what_all_classes_share():
    outputs = {"a/logits": np.array([[1.0, 3.0]]), "box": np.array([[1.0, 3.0]])}
    found = centered(outputs, {"a/logits"})
    np.testing.assert_array_equal(found["a/logits"], [[-1.0, 1.0]])
    np.testing.assert_array_equal(found["box"], [[1.0, 3.0]])


def test_an_infinite_logit_leaves_nothing_to_compare_and_warns_nobody():
    values = np.array([[np.inf, 0.0]], np.float32)
    assert np.isnan(centered({"y": values}, {"y"})["y"]).any()
