"""How much of a calibrated range is used: what readers do not tell apart needs no levels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.quantize.ranges import activation_ranges
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.engines.op_case import Graph
from tests.quantize.minmax import minmax_table, table_of
from tests.tiny import Array

SHAPE = (1, 8)
WIDE = (-30.0, 40.0)


def _ranges(model: Model, **known: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Return the ranges by name; what is not `known` was calibrated as WIDE."""
    names = model.names()
    table = table_of(dict.fromkeys(names, WIDE) | known)
    return {names[tensor]: span for tensor, span in activation_ranges(model, table).items()}


def _layer(g: Graph, name: str = "m") -> int:
    inputs = [g.inputs[0], g.weights((8, 8), 0), g.bias(8)]
    return g.op("FULLY_CONNECTED", inputs, (name, SHAPE), options="FullyConnectedOptions")


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("LOGISTIC", (-8.0, 8.0)),
        ("TANH", (-4.0, 4.0)),
        ("HARD_SWISH", (-3.0, 40.0)),
        ("ELU", WIDE),
    ],
)
def test_what_saturates_its_only_reader_is_not_told_apart(
    op: str, expected: tuple[float, float]
) -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(g.op(op, [_layer(g)], ("y", SHAPE)))
    assert _ranges(model)["m"] == expected
    assert _ranges(model, m=(-1.0, 2.0))["m"] == (-1.0, 2.0)


@pytest.mark.parametrize(
    ("op", "step"), [("LOGISTIC", 1 / 256), ("TANH", 1 / 128), ("HARD_SWISH", 1e-6)]
)
def test_beyond_these_bounds_the_op_s_own_result_does_not_change(op: str, step: float) -> None:
    g = Graph({"x": (1, 1000)})
    model = g.finish(g.op(op, g.inputs, ("y", (1, 1000))))
    low, high = _ranges(model)["x"]
    values = np.linspace(*WIDE, 1000, dtype=np.float32)[np.newaxis]
    runner = Runner(model.to_bytes())
    error = runner.run({"x": values})["y"] - runner.run({"x": values.clip(low, high)})["y"]
    assert np.abs(error).max() < step / 8


def test_that_holds_behind_ops_that_only_move() -> None:
    g = Graph({"x": SHAPE})
    flat = g.apply("RESHAPE", [_layer(g), g.integers([8])], (8,), options="ReshapeOptions")
    pair = g.op("PACK", [flat, flat], ("pair", (2, 8)), options="PackOptions", valuesCount=2)
    model = g.finish(g.op("LOGISTIC", [pair], ("y", (2, 8))))
    assert _ranges(model)["m"] == _ranges(model)["pair"] == (-8.0, 8.0)


def test_another_reader_or_an_output_needs_the_whole_range() -> None:
    g = Graph({"x": SHAPE})
    middle = _layer(g)
    gate = g.op("LOGISTIC", [middle], ("gate", SHAPE))
    swish = g.op("MUL", [middle, gate], ("y", SHAPE), options="MulOptions")
    assert _ranges(g.finish(swish))["m"] == WIDE
    g.model.operators.pop()
    assert _ranges(g.finish(gate, middle))["m"] == WIDE


def test_a_swish_of_two_ops_keeps_its_answers() -> None:
    g = Graph({"x": SHAPE})
    middle = _layer(g)
    gate = g.op("LOGISTIC", [middle], ("gate", SHAPE))
    model = g.finish(g.op("MUL", [middle, gate], ("y", SHAPE), options="MulOptions"))
    draw = np.random.default_rng(0)
    samples = [{"x": (draw.normal(size=SHAPE) * 8).astype(np.float32)} for _ in range(20)]
    quantized = quantize(model, minmax_table(model, samples))
    assert quantized.float_ops == ()
    _assert_close(model, quantized.model, samples, 0.02)


def _assert_close(
    model: Model, int8: Model, samples: list[dict[str, Array]], tolerance: float
) -> None:
    runners = Runner(model.to_bytes()), Runner(int8.to_bytes())
    expected, actual = (np.stack([r.run(given)["y"] for given in samples]) for r in runners)
    assert np.abs(expected - actual).max() <= tolerance * np.abs(expected).max()


# ---- masks


def _masked(op: str, mask: float) -> Model:
    """'x' -> layer -> some values hidden by `mask` -> RESHAPE -> SOFTMAX 'y'."""
    g = Graph({"x": SHAPE})
    hidden = np.arange(8).reshape(SHAPE) % 3 == 0
    if op == "ADD":
        parts = [_layer(g), g.floats(np.where(hidden, mask, 0.0))]
        masked = g.op("ADD", parts, ("masked", SHAPE), options="AddOptions")
    else:
        condition = g.model.add_tensor("hidden", SHAPE, "BOOL", values=hidden)
        parts = [condition, g.floats(np.full(SHAPE, mask)), _layer(g)]
        masked = g.op("SELECT_V2", parts, ("masked", SHAPE), options="SelectV2Options")
    rows = g.apply("RESHAPE", [masked, g.integers([1, 8])], SHAPE, options="ReshapeOptions")
    return g.finish(g.op("SOFTMAX", [rows], ("y", SHAPE), options="SoftmaxOptions", beta=1.0))


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min), -np.inf])
@pytest.mark.parametrize("op", ["ADD", "SELECT_V2"])
def test_a_mask_before_a_softmax_stays_float_up_to_it(op: str, mask: float) -> None:
    model = _masked(op, mask)
    draw = np.random.default_rng(0)
    samples = [{"x": draw.normal(size=SHAPE).astype(np.float32)} for _ in range(20)]
    quantized = quantize(model, minmax_table(model, samples))
    assert [op.name for op in quantized.float_ops] == [op, "RESHAPE", "SOFTMAX"]
    assert quantized.float_ops[0].reason == (
        "tensor 'masked' holds a 'minus infinity', beside which INT8 has no levels"
        if np.isfinite(mask)
        else "one of its constants is not finite"
    )
    _assert_close(model, quantized.model, samples, 0.02)


def test_wide_logits_are_no_mask() -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(g.op("SOFTMAX", [_layer(g)], ("y", SHAPE), options="SoftmaxOptions", beta=1.0))
    ranges = _ranges(model, m=(-2000.0, 1000.0))
    assert ranges["m"] == (-2000.0, 1000.0)


def test_a_small_addend_elsewhere_is_no_mask() -> None:
    g = Graph({"x": SHAPE})
    total = g.op("ADD", [_layer(g), g.floats(1e-6)], ("total", SHAPE), options="AddOptions")
    model = g.finish(g.op("TANH", [total], ("y", SHAPE)))
    assert set(_ranges(model)) == {"x", "m", "total", "y"} | set(model.names())
