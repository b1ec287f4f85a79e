from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.quantize import noise
from edgeq.quantize.convert import quantize
from edgeq.quantize.noise import LIMIT_DB, Noise, NoiseMeter
from edgeq.tflite.logits import before_softmax
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.quantize.minmax import minmax_table

SAMPLES = [tiny.tiny_inputs(seed) for seed in range(6)]


def scaled(table: CalibrationTable, by: float) -> CalibrationTable:
    rows = {
        n: type(r)(r.lo * by, r.hi * by, r.method, 0.0, 0.0, r.min, r.max)
        for n, r in table.tensors.items()
    }
    return CalibrationTable(table.model_sha256, table.method, table.samples, rows)


def logits(model: Model) -> list[tiny.Array]:
    (opened,), _ = before_softmax([model])
    runner = Runner(opened.to_bytes())
    values = [next(iter(runner.run(given).values())) for given in SAMPLES]
    return [v - v.mean() for v in values]


def measured(model: Model, table: CalibrationTable, samples=SAMPLES) -> Noise:
    return NoiseMeter(model, samples).of_ranges(model)(table)


def two_outputs() -> Model:
    """'y' = x + x, and 'z' = x * x."""
    g = tiny.GraphBuilder({"x": (1, 4)})
    return g.finish(
        g.op("ADD", [0, 0], ("y", (1, 4)), options="AddOptions"),
        g.op("MUL", [0, 0], ("z", (1, 4)), options="MulOptions"),
    )


def test_it_is_the_noise_of_the_form_before_its_softmax():
    model = tiny.tiny_model()
    table = minmax_table(model, SAMPLES)
    found = measured(model, table)
    expected, given = logits(model), logits(quantize(model, table).model)
    signal = sum(float((e**2).sum()) for e in expected)
    shares = [float(((e - g) ** 2).sum()) / signal for e, g in zip(expected, given, strict=True)]
    assert found.shares == pytest.approx(np.array([shares]), rel=1e-3)
    assert found.sqnr_db == pytest.approx(-10 * np.log10(sum(shares)), abs=1e-3)


def test_ranges_far_too_wide_add_noise():
    model = tiny.tiny_model()
    table = minmax_table(model, SAMPLES)
    assert measured(model, scaled(table, 8.0)).sqnr_db < measured(model, table).sqnr_db - 6


def test_a_form_and_the_ranges_that_make_it_measure_the_same():
    model = tiny.tiny_model()
    meter, table = NoiseMeter(model, SAMPLES), minmax_table(model, SAMPLES)
    by_form = meter.of_form(quantize(model, table).model)
    assert np.array_equal(by_form.shares, meter.of_ranges(model)(table).shares)
    assert meter.of_form(model).sqnr_db == LIMIT_DB


def test_a_form_that_ends_in_something_else_is_refused():
    model = tiny.tiny_model()
    headless = model.copy()
    headless.graph.outputs = np.array([headless.names().index("logits")], np.int32)
    with pytest.raises(EngineError, match="softmax"):
        NoiseMeter(model, SAMPLES).of_form(headless)


def test_every_output_has_its_noise_and_the_worst_counts():
    model = two_outputs()
    samples = [{"x": np.array([[0.1, 1.0, 3.0, i]], np.float32)} for i in range(3)]
    table = minmax_table(model, samples)
    narrow = dict(table.tensors) | {"z": scaled(table, 0.25).tensors["z"]}
    found = measured(model, CalibrationTable("", "", 1, narrow), samples)
    assert found.shares.shape == (2, 3)
    assert found.worst == 1
    assert found.shares[1].sum() > 100 * found.shares[0].sum()


def test_forms_are_made_from_another_source_and_compared_with_the_model():
    model, other = tiny.tiny_model(), tiny.tiny_model()
    bias = other.names().index("conv/b")
    other.tensors[bias].buffer = other.add_buffer(other.constant(bias) + np.float32(2))
    table = minmax_table(model, SAMPLES)
    moved = NoiseMeter(model, SAMPLES).of_ranges(other)(table).sqnr_db
    assert moved < measured(model, table).sqnr_db - 6


def test_large_outputs_are_thinned_in_a_step_that_meets_every_channel(monkeypatch):
    monkeypatch.setattr(noise, "MAX_VALUES", 10)
    values = np.arange(60)
    thinned = noise._thinned(values.reshape(5, 12))
    assert 5 <= thinned.size <= 10
    assert {int(v) % 12 for v in noise._thinned(np.arange(12 * 12))} != {0}


def test_what_float_does_not_know_says_nothing():
    expected = np.array([1.0, np.nan, np.inf, 2.0], np.float32)
    assert noise._noise(expected, np.array([1.0, 7.0, 7.0, 1.0], np.float32)) == 1.0
    assert noise._energy(expected) == 5.0


def test_a_value_that_is_not_finite_is_infinite_noise():
    assert noise._noise(np.ones(2, np.float32), np.array([1.0, np.nan], np.float32)) == np.inf
    assert noise._noise(np.ones(2, np.float32), np.ones(3, np.float32)) == np.inf


def test_an_exact_form_and_a_ruined_one_are_within_bounds():
    assert Noise(np.zeros((1, 3))).sqnr_db == LIMIT_DB
    assert Noise(np.full((1, 3), np.inf)).sqnr_db == -LIMIT_DB


def test_an_output_that_is_all_zero_has_no_noise_or_all():
    shares = noise._shares(np.array([[0.0, 1.0]]), np.array([0.0]))
    assert shares.tolist() == [[0.0, np.inf]]


def test_samples_of_another_shape_are_refused():
    with pytest.raises(InvalidRequestError):
        NoiseMeter(tiny.tiny_model(), [{"image": np.zeros((1, 9, 9, 3), np.float32)}])
