"""QUANTIZE -> DEQUANTIZE pairs in a float model: training left them, and their scales hold."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.affine import per_tensor
from edgeq.quantize.convert import quantize
from edgeq.quantize.pairs import bypass_pairs
from edgeq.quantize.prepare import is_quantized, prepare
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests.engines.op_case import Graph
from tests.quantize.minmax import minmax_table

SHAPE = (1, 8)
SCALE, ZERO_POINT = 0.037, 11


def _pair(g: Graph, source: int, *, type_name: str = "INT8", zero_point: int = ZERO_POINT) -> int:
    middle = g.op("QUANTIZE", [source], (f"q{source}", SHAPE), type_name=type_name)
    g.model.set_quantization(middle, per_tensor(SCALE, zero_point))
    return g.op("DEQUANTIZE", [middle], (f"d{source}", SHAPE), version=2)


def _layer(g: Graph, source: int, name: str) -> int:
    inputs = [source, g.weights((8, 8), 0), g.bias(8)]
    return g.op("FULLY_CONNECTED", inputs, (name, SHAPE), options="FullyConnectedOptions")


def _trained(type_name: str = "INT8", zero_point: int = ZERO_POINT) -> Model:
    """'x' -> pair -> layer 'm' -> pair -> layer 'y'."""
    g = Graph({"x": SHAPE})
    first = _layer(g, _pair(g, 0, type_name=type_name, zero_point=zero_point), "m")
    return g.finish(_layer(g, _pair(g, first, type_name=type_name, zero_point=zero_point), "y"))


def _samples(count: int = 8) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [{"x": draw.normal(size=SHAPE).astype(np.float32)} for _ in range(count)]


def _names(model: Model) -> list[str]:
    return [model.op_name(operator) for operator in model.operators]


@pytest.mark.parametrize(("type_name", "shift"), [("INT8", 0), ("UINT8", 128)])
def test_a_trained_scale_is_the_one_that_is_used(type_name: str, shift: int) -> None:
    model = _trained(type_name, ZERO_POINT + shift)
    assert not is_quantized(model)
    quantized = quantize(model, minmax_table(model, _samples()))
    check_structure(quantized.model)
    assert quantized.float_ops == ()
    assert _names(quantized.model) == [
        "QUANTIZE", "FULLY_CONNECTED", "FULLY_CONNECTED", "DEQUANTIZE",
    ]  # fmt: skip
    for name in ("x_int8", "m_int8"):
        parameters = quantized.model.quantization(quantized.model.names().index(name))
        assert parameters is not None
        assert parameters.scale[0] == np.float32(SCALE)
        assert parameters.zero_point[0] == ZERO_POINT


def test_the_int8_model_answers_as_the_trained_one() -> None:
    model = _trained()
    int8 = quantize(model, minmax_table(model, _samples())).model
    runners = Runner(model.to_bytes()), Runner(int8.to_bytes())
    expected, actual = (np.stack([r.run(x)["y"] for x in _samples()]) for r in runners)
    assert np.abs(expected - actual).max() < 0.02 * np.abs(expected).max()


def test_positions_are_those_of_the_given_model() -> None:
    prepared = prepare(_trained())
    assert _names(prepared.model) == ["FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert prepared.positions == (2, 5)
    quantized = quantize(_trained(), minmax_table(_trained(), _samples()), float_ops=frozenset({5}))
    assert [(op.index, op.name) for op in quantized.float_ops] == [(5, "FULLY_CONNECTED")]


def test_every_reader_behind_a_pair_reads_what_stands_before_it() -> None:
    g = Graph({"x": SHAPE})
    behind = _pair(g, 0)
    again = _pair(g, behind)
    model = g.finish(g.op("ADD", [behind, again], ("y", SHAPE), options="AddOptions"))
    pairs = bypass_pairs(model)
    assert pairs.positions == {0, 1, 2, 3}
    assert indices(model.operators[-1].inputs) == [0, 0]
    assert set(pairs.ranges) == {0}
    low, high = pairs.ranges[0]
    assert (low, high) == pytest.approx(((-128 - ZERO_POINT) * SCALE, (127 - ZERO_POINT) * SCALE))


def test_a_pair_that_an_output_shows_stays() -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(_pair(g, _layer(g, 0, "m")))
    assert bypass_pairs(model).positions == frozenset()
    quantized = quantize(model, minmax_table(model, _samples()))
    expected, actual = (Runner(m.to_bytes()).run(_samples()[0]) for m in (model, quantized.model))
    for name, values in expected.items():
        assert np.abs(values - actual[name]).max() <= 2 * SCALE


@pytest.mark.parametrize("type_name", ["INT16", "INT32"])
def test_integers_of_another_width_are_no_pair(type_name: str) -> None:
    assert bypass_pairs(_trained(type_name, 0)).positions == frozenset()


def test_integers_that_another_op_reads_are_no_pair() -> None:
    g = Graph({"x": SHAPE})
    behind = _pair(g, 0)
    middle = g.model.names().index("q0")
    other = g.op("TANH", [middle], ("t", SHAPE), type_name="INT8", version=2)
    g.model.set_quantization(other, per_tensor(1 / 128, 0))
    result = g.op("DEQUANTIZE", [other], ("z", SHAPE), version=2)
    model = g.finish(_layer(g, behind, "y"), result)
    assert bypass_pairs(model).positions == frozenset()
