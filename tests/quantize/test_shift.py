from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.quantize.choose import Choice, choose_ranges
from edgeq.quantize.convert import quantize
from edgeq.quantize.noise import NoiseMeter
from edgeq.quantize.refine import correct_biases
from edgeq.quantize.shift import CorrectedMeter, shifted
from edgeq.tflite.model import Model
from tests import tiny
from tests.biases import with_moved_biases
from tests.quantize.minmax import minmax_table
from tests.shared_models import calibration_samples, shared_tasks

SAMPLES = [tiny.tiny_inputs(seed) for seed in range(16)]


def biases(model: Model) -> dict[str, tiny.Array]:
    names = model.names()
    return {n: model.constant(t) for t, n in enumerate(names) if model.type_name(t) == "INT32"}


def float_constants(model: Model) -> dict[str, tiny.Array]:
    constants = {n: model.constant(t) for t, n in enumerate(model.names())}
    return {n: v for n, v in constants.items() if v is not None and v.dtype == np.float32}


def test_a_form_of_the_shifted_model_has_the_corrected_biases():
    model = tiny.tiny_model()
    table = minmax_table(model, SAMPLES)
    int8 = quantize(model, table).model
    corrected = correct_biases(model, int8, SAMPLES)
    wanted, made = biases(corrected), biases(quantize(shifted(model, int8, corrected), table).model)
    differing = 0
    for name, values in wanted.items():
        if name not in biases(int8):
            continue
        found = made.get(name, made.get(name.replace("_int32", "_shifted_int32")))
        assert np.abs(values.astype(np.int64) - found).max() <= 1
        differing += int(np.abs(values.astype(np.int64) - biases(int8)[name]).max() > 1)
    assert differing


def test_only_biases_move_and_the_given_model_stays():
    model = tiny.tiny_model()
    before, int8 = model.to_bytes(), quantize(model, minmax_table(model, SAMPLES)).model
    moved = shifted(model, int8, with_moved_biases(int8, 0.5))
    assert model.to_bytes() == before
    assert [moved.op_name(o) for o in moved.operators] == [
        model.op_name(o) for o in model.operators
    ]
    old, new = float_constants(model), float_constants(moved)
    assert all(np.array_equal(new[name], values) for name, values in old.items())
    for name in ("conv/b", "dw/b", "fc/b"):
        assert new[f"{name}_shifted"] == pytest.approx(old[name] + 0.5, abs=0.02)


def test_without_a_correction_nothing_moves():
    model = tiny.tiny_model()
    int8 = quantize(model, minmax_table(model, SAMPLES)).model
    assert shifted(model, int8, int8.copy()).to_bytes() == model.to_bytes()


def test_a_bias_that_two_ops_share_moves_for_each():
    g = tiny.GraphBuilder({"x": (1, 8)})
    draw = np.random.default_rng(2)
    bias = g.constant("b", np.zeros(3, np.float32))
    ops = [
        g.op("FULLY_CONNECTED",
             [0, g.constant(f"w{i}", draw.normal(size=(3, 8)).astype(np.float32)), bias],
             (f"y{i}", (1, 3)), options="FullyConnectedOptions")
        for i in range(2)
    ]  # fmt: skip
    model = g.finish(*ops)
    samples = [{"x": draw.uniform(0, 1, (1, 8)).astype(np.float32)} for _ in range(8)]
    int8 = quantize(model, minmax_table(model, samples)).model
    moved = shifted(model, int8, with_moved_biases(int8, 0.25))
    used = [moved.constant(int(o.inputs[2])) for o in moved.operators]
    assert len({int(o.inputs[2]) for o in moved.operators}) == 2
    assert all(values == pytest.approx(0.25, abs=0.02) for values in used)


def test_a_model_without_biases_is_a_plain_copy():
    model = tiny.one_op_model("TANH")
    int8 = quantize(model, minmax_table(model, [{"x": np.ones((1, 4), np.float32)}])).model
    assert shifted(model, int8, int8.copy()).to_bytes() == model.to_bytes()


def test_ranges_are_measured_by_their_corrected_form():
    model = tiny.tiny_model()
    table = minmax_table(model, SAMPLES)
    meter = CorrectedMeter(model, SAMPLES[8:], SAMPLES[:8])
    int8 = quantize(model, table).model
    by_hand = NoiseMeter(model, SAMPLES[8:]).of_form(correct_biases(model, int8, SAMPLES[:8]))
    assert np.array_equal(meter.measure(table).shares, by_hand.shares)
    assert meter.near(table)(table).sqnr_db == pytest.approx(by_hand.sqnr_db, abs=0.5)


def test_a_model_that_cannot_be_corrected_is_measured_as_it_is():
    model = tiny.one_op_model("TANH")
    samples = [{"x": np.array([[0.1, 1.0, 3.0, i]], np.float32)} for i in range(4)]
    table = minmax_table(model, samples)
    meter = CorrectedMeter(model, samples, samples)
    expected = NoiseMeter(model, samples).of_form(quantize(model, table).model)
    assert np.array_equal(meter.measure(table).shares, expected.shares)
    assert np.array_equal(meter.near(table)(table).shares, expected.shares)


def test_samples_of_many_shapes_measure_without_correction():
    model = tiny.tiny_model()
    table = minmax_table(model, SAMPLES)
    odd = [*SAMPLES[:2], {"image": np.zeros((1, 9, 9, 3), np.float32)}]
    expected = NoiseMeter(model, SAMPLES).of_form(quantize(model, table).model)
    found = CorrectedMeter(model, SAMPLES, odd).measure(table)
    assert np.array_equal(found.shares, expected.shares)


def test_a_choice_among_real_forms_is_no_worse_than_any_and_always_the_same():
    model = tiny.tiny_model()
    good = minmax_table(model, SAMPLES)

    def widened(name: str, method: str) -> CalibrationTable:
        wide = TensorRange(-40.0, 40.0, method, 0.0, 0.0, -1.0, 1.0)
        rows = {n: wide if n == name else r for n, r in good.tensors.items()}
        return CalibrationTable("", method, 1, rows)

    tables = {"mse": widened("image", "mse"), "entropy": widened("dw", "entropy")}

    def chosen() -> Choice:
        meter = CorrectedMeter(model, SAMPLES[8:], SAMPLES[:8])
        return choose_ranges(tables, meter.measure, near=meter.near)

    choice = chosen()
    assert dict(choice.table.tensors) == dict(good.tensors)
    assert choice.sqnr_db > max(choice.scores.values()) + 3
    assert choice == chosen()


@pytest.mark.shared
def test_mobilenet_is_ranked_without_the_noise_that_correction_removes(shared):
    task = shared_tasks(shared)["mobilenet_v1_025_224"]
    model = Model.read(shared / "data" / task["model"])
    inputs = [sample.inputs for sample in calibration_samples(shared, task, 16)]
    table = minmax_table(model, inputs[:8])
    plain = NoiseMeter(model, inputs[8:]).of_ranges(model)(table).sqnr_db
    meter = CorrectedMeter(model, inputs[8:], inputs[:8])
    corrected = meter.measure(table).sqnr_db
    assert corrected > plain + 3
    assert meter.near(table)(table).sqnr_db == pytest.approx(corrected, abs=0.5)
