from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.quantize.convert import quantize
from edgeq.quantize.refine import MAX_SAMPLES, MAX_VALUES, correct_biases, correction_samples
from edgeq.tflite.model import TYPE_CODES, Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny
from tests.biases import with_moved_biases
from tests.quantize.minmax import minmax_table
from tests.shared_models import calibration_samples, shared_tasks

RELU = schema.ActivationFunctionType.RELU
RELU_N1_TO_1 = schema.ActivationFunctionType.RELU_N1_TO_1
SAMPLES = [tiny.tiny_inputs(seed) for seed in range(16)]
FRESH = [tiny.tiny_inputs(seed) for seed in range(100, 164)]


def int8_of(model: Model, samples=SAMPLES) -> Model:
    return quantize(model, minmax_table(model, samples)).model


def dense_model(fused: int = 0, *, bias: bool = True, biased_by: float = 0.0) -> Model:
    """'x' [1, 8] -> FULLY_CONNECTED -> 'y' [1, 3]."""
    draw = np.random.default_rng(5)
    g = tiny.GraphBuilder({"x": (1, 8)})
    kernel = g.constant("w", draw.normal(size=(3, 8)).astype(np.float32))
    given = g.constant("b", np.full(3, biased_by, np.float32)) if bias else -1
    y = g.op("FULLY_CONNECTED", [0, kernel, given], ("y", (1, 3)),
             options="FullyConnectedOptions", fusedActivationFunction=fused)  # fmt: skip
    return g.finish(y)


def dense_samples(count: int = 64) -> list[dict[str, tiny.Array]]:
    draw = np.random.default_rng(1)
    return [{"x": draw.uniform(0, 1, (1, 8)).astype(np.float32)} for _ in range(count)]


def mean_error(model: Model, int8: Model, samples) -> float:
    """The largest absolute mean error of any channel of the first output."""
    reference, engine = Runner(model.to_bytes()), Runner(int8.to_bytes())
    errors = [
        next(iter(engine.run(s).values())) - next(iter(reference.run(s).values())) for s in samples
    ]
    return float(np.abs(np.mean(errors, axis=0)).max())


def noise(model: Model, int8: Model, samples) -> float:
    reference, engine = Runner(model.to_bytes()), Runner(int8.to_bytes())
    return sum(
        float(np.square(a - b).sum())
        for s in samples
        for a, b in zip(engine.run(s).values(), reference.run(s).values(), strict=True)
    )


# ---- what it does


@pytest.mark.parametrize("fused", [0, RELU])
def test_a_shifted_mean_is_put_right(fused):
    model, samples = dense_model(fused, biased_by=0.5), dense_samples()
    wrong = with_moved_biases(int8_of(model, samples), 0.1)
    corrected = correct_biases(model, wrong, samples)
    assert mean_error(model, wrong, samples) > 0.05
    assert mean_error(model, corrected, samples) < 0.01


def test_an_error_in_the_first_layer_is_not_corrected_twice():
    """Each layer is judged on what the corrected layers before it give."""
    model = tiny.tiny_model()
    wrong = with_moved_biases(int8_of(model), 0.05)
    corrected = correct_biases(model, wrong, SAMPLES)
    assert noise(model, corrected, FRESH) < 0.25 * noise(model, wrong, FRESH)


def test_what_a_separate_relu_clips_does_not_count_as_an_error():
    """The convolution before a RELU saturates at 0 on purpose; its float twin goes below."""
    model = tiny.tiny_model()
    int8 = int8_of(model)
    corrected = correct_biases(model, int8, SAMPLES)
    assert noise(model, corrected, FRESH) < 1.5 * noise(model, int8, FRESH)


def test_only_biases_change():
    model = tiny.tiny_model()
    int8 = int8_of(model)
    corrected = correct_biases(model, int8, SAMPLES)
    assert [corrected.op_name(o) for o in corrected.operators] == [
        int8.op_name(o) for o in int8.operators
    ]
    before = {name: int8.constant(t) for t, name in enumerate(int8.names())}
    after = {name: corrected.constant(t) for t, name in enumerate(corrected.names())}
    assert set(after) == set(before)
    changed = [n for n in before if not np.array_equal(before[n], after[n])]
    assert changed
    assert all(after[name].dtype == np.int32 and name.endswith("b_int32") for name in changed)
    parameters = {name: corrected.quantization(t) for t, name in enumerate(corrected.names())}
    for tensor, name in enumerate(int8.names()):
        old, new = int8.quantization(tensor), parameters[name]
        assert (old is None) == (new is None)
        assert old is None or np.array_equal(old.scale, new.scale)


def test_the_given_models_stay_as_they_were():
    model = tiny.tiny_model()
    int8 = int8_of(model)
    before = model.to_bytes(), int8.to_bytes()
    correct_biases(model, int8, SAMPLES)
    assert (model.to_bytes(), int8.to_bytes()) == before


def test_the_same_samples_give_the_same_bytes():
    model = tiny.tiny_model()
    first, second = (correct_biases(model, int8_of(model), SAMPLES).to_bytes() for _ in range(2))
    assert first == second


def test_a_bias_that_two_ops_share_is_corrected_for_each():
    g = tiny.GraphBuilder({"x": (1, 8)})
    draw = np.random.default_rng(2)
    bias = g.constant("b", np.zeros(3, np.float32))
    kernel = g.constant("w", draw.normal(size=(3, 8)).astype(np.float32))
    ops = [
        g.op("FULLY_CONNECTED", [0, kernel, bias], (name, (1, 3)),
             options="FullyConnectedOptions", fusedActivationFunction=fused)
        for name, fused in (("plain", 0), ("clipped", RELU_N1_TO_1))
    ]  # fmt: skip
    model, samples = g.finish(*ops), dense_samples()
    wrong = with_moved_biases(int8_of(model, samples), 0.2)
    corrected = correct_biases(model, wrong, samples)
    assert noise(model, corrected, samples) < 0.1 * noise(model, wrong, samples)


def test_progress_counts_the_ops():
    model, seen = tiny.tiny_model(), []
    int8 = int8_of(model)
    correct_biases(model, int8, SAMPLES[:2], progress=seen.append)
    assert seen == list(range(1, len(int8.operators) + 1))


# ---- where there is nothing to correct, or nothing to correct it by


def test_no_samples_no_correction():
    model = tiny.tiny_model()
    assert correct_biases(model, int8_of(model), []) is None


def test_a_model_without_biases_is_left_alone():
    model, samples = dense_model(bias=False), dense_samples()
    assert correct_biases(model, int8_of(model, samples), samples) is None


def test_a_model_with_state_is_left_alone():
    model = tiny.tiny_model()
    int8 = int8_of(model)
    int8.tensors[int8.outputs[0]].isVariable = True
    assert correct_biases(model, int8, SAMPLES) is None


@pytest.mark.parametrize("type_name", ["RESOURCE", "VARIANT", "STRING"])
def test_a_model_that_passes_more_than_arrays_is_left_alone(type_name):
    model = tiny.tiny_model()
    int8 = int8_of(model)
    int8.add_tensor("handle", (), "FLOAT32")
    int8.tensors[-1].type = TYPE_CODES[type_name]
    assert correct_biases(model, int8, SAMPLES) is None


def test_a_channel_that_is_always_clipped_moves_by_a_bounded_step():
    model, samples = dense_model(RELU, biased_by=-50.0), dense_samples()
    int8 = int8_of(dense_model(RELU), samples)  # another range: the output is dead in float only
    corrected = correct_biases(model, int8, samples)
    output = next(iter(Runner(corrected.to_bytes()).run(samples[0]).values()))
    assert np.isfinite(output).all()


def test_samples_of_another_shape_are_refused():
    model = tiny.tiny_model()
    with pytest.raises((InvalidRequestError, EngineError)):
        correct_biases(model, int8_of(model), [{"image": np.zeros((1, 9, 9, 3), np.float32)}])


def test_a_model_without_weights_asks_for_no_samples():
    assert (
        correction_samples(int8_of(tiny.one_op_model(), [{"x": np.ones((1, 4), np.float32)}])) == 0
    )


def test_large_models_take_fewer_samples():
    model = int8_of(tiny.tiny_model())
    assert correction_samples(model) == MAX_SAMPLES
    model.tensors[model.outputs[0]].shape = np.array([1, MAX_VALUES // 10], np.int32)
    assert correction_samples(model) == 9
    model.tensors[model.outputs[0]].shape = np.array([2, MAX_VALUES], np.int32)
    assert correction_samples(model) == 1


# ---- real models


@pytest.mark.shared
def test_mobilenet_gains_several_decibels(shared):
    task = shared_tasks(shared)["mobilenet_v1_025_224"]
    model = Model.read(shared / "data" / task["model"])
    inputs = [sample.inputs for sample in calibration_samples(shared, task, 24)]
    int8 = int8_of(model, inputs[:16])
    corrected = correct_biases(model, int8, inputs[:16])
    assert noise(model, corrected, inputs[16:]) < 0.5 * noise(model, int8, inputs[16:])


def test_the_weights_are_rounded_again_where_that_is_asked_for():
    model = tiny.tiny_model(3)
    int8 = int8_of(model)
    corrected = correct_biases(model, int8, SAMPLES)
    rounded = correct_biases(model, int8, SAMPLES, rounding=True)
    assert corrected is not None
    assert rounded is not None
    assert weights_of(corrected) == weights_of(int8)
    before, after = (np.frombuffer(b"".join(weights_of(m)), np.int8) for m in (corrected, rounded))
    assert 0.01 < np.mean(before != after) < 0.9
    assert np.abs(before.astype(int) - after).max() <= 8


def weights_of(model: Model) -> list[bytes]:
    return [
        model.constant(t).tobytes()
        for t in range(len(model.tensors))
        if model.type_name(t) == "INT8" and model.is_constant(t)
    ]
