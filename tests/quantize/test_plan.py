"""Every reason for an op to stay float, and the ops beside it that follow or do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeq.quantize.plan import Plan, make_plan
from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests.engines.op_case import FUSED, Graph
from tests.quantize.minmax import table_of

SHAPE = (1, 4)
WIDE = (-10.0, 10.0)


def _plan(model: Model, ranges: dict[str, tuple[float, float]] | None = None) -> Plan:
    names = model.names()
    return make_plan(model, table_of(ranges or dict.fromkeys(names, WIDE)), [])


def _reason(model: Model, ranges: dict[str, tuple[float, float]] | None = None) -> str:
    (reason,) = _plan(model, ranges).reasons.values()
    return reason


def _fully_connected(
    change: Callable[[Graph, list[int]], None] = lambda g, inputs: None, fused: int = FUSED.NONE
) -> Model:
    """'x' -> FULLY_CONNECTED 'y', its inputs changed by `change`."""
    g = Graph({"x": SHAPE})
    inputs = [g.inputs[0], g.weights((4, 4), 0), g.bias(4)]
    change(g, inputs)
    return g.finish(g.op("FULLY_CONNECTED", inputs, ("y", SHAPE), options="FullyConnectedOptions",
                         fusedActivationFunction=fused))  # fmt: skip


def _add(constant: float, *, low_input: bool = False) -> Model:
    g = Graph({"x": SHAPE})
    inputs = [g.floats(1.0) if low_input else g.inputs[0], g.floats(constant)]
    return g.finish(g.op("ADD", inputs, ("y", SHAPE), options="AddOptions"))


def test_a_plain_op_runs_in_int8() -> None:
    plan = _plan(_fully_connected())
    assert dict(plan.reasons) == {}
    assert list(plan.rules) == [0]
    assert len(plan.weights[0].scale) == 4


def test_a_fused_tanh_keeps_the_op_float() -> None:
    assert _reason(_fully_connected(fused=4)) == "its fused activation has no INT8 kernel"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_keep_the_op_float(value: float) -> None:
    def change(g: Graph, inputs: list[int]) -> None:
        inputs[1] = g.floats(np.full((4, 4), value))

    assert _reason(_fully_connected(change)) == "its weights or bias are not finite"


def test_a_bias_computed_at_run_time_keeps_the_op_float() -> None:
    def change(g: Graph, inputs: list[int]) -> None:
        inputs[2] = g.model.add_tensor("b", (4,), "FLOAT32")
        g.inputs.append(inputs[2])

    assert _reason(_fully_connected(change)) == "its bias is not a float32 constant"


def test_weights_of_a_packed_type_keep_the_op_float() -> None:
    def change(g: Graph, inputs: list[int]) -> None:
        inputs[1] = g.model.add_tensor("w", (4, 4), "INT4", values=np.ones(8, np.int8))

    assert _reason(_fully_connected(change)) == "its weights are sparse or packed"


def test_sparse_weights_keep_the_op_float() -> None:
    model = _fully_connected()
    model.tensors[1].sparsity = schema.SparsityParametersT()
    assert _reason(model) == "its weights are sparse or packed"


def test_shuffled_weights_keep_the_op_float() -> None:
    model = _fully_connected()
    model.operators[0].builtinOptions.weightsFormat = 1
    assert _reason(model) == "its weights are shuffled"


def test_an_op_over_constants_only_stays_float() -> None:
    assert _reason(_add(1.0, low_input=True)) == "it reads no float32 activation"


def test_a_constant_that_is_not_finite_keeps_the_op_float() -> None:
    assert _reason(_add(-np.inf)) == "one of its constants is not finite"


def test_a_square_root_of_what_may_be_negative_stays_float() -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(g.op("RSQRT", g.inputs, ("y", SHAPE)))
    assert _reason(model, {"x": (-0.1, 4), "y": (0, 3)}) == "its input is negative at times"
    assert _plan(model, {"x": (0.1, 4), "y": (0, 3)}).reasons == {}


def test_an_output_too_narrow_for_its_relu6_keeps_the_op_float() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    model = g.finish(
        g.op("ADD", g.inputs, ("y", SHAPE), options="AddOptions",
             fusedActivationFunction=FUSED.RELU6)
    )  # fmt: skip
    narrow = (0.0, 1e-8)
    assert "too narrow for its fused" in _reason(model, dict.fromkeys(("a", "b", "y"), narrow))


@pytest.mark.parametrize(("high", "levels"), [(0.001, 1), (0.02, 6), (0.03, None), (0.0, None)])
def test_an_output_too_small_for_the_scale_its_kernel_demands_stays_float(
    high: float, levels: int | None
) -> None:
    g = Graph({"x": SHAPE})
    model = g.finish(g.op("LOGISTIC", g.inputs, ("y", SHAPE)))
    reasons = _plan(model, {"x": (-12, 1), "y": (0.0, high)}).reasons
    expected = f"its kernel's output scale would leave it {levels} levels"
    assert dict(reasons) == ({} if levels is None else {0: expected})


@pytest.mark.parametrize(
    ("shape", "signature", "is_float"),
    [
        ((1, 4, 4, 31), None, False),
        ((1, 4, 4, 32), None, True),
        ((1, 1, 1, 4), (1, -1, -1, 4), True),
    ],
)
def test_an_op_whose_int8_kernel_is_slow_stays_float_where_it_has_much_to_do(
    shape: tuple[int, ...], signature: tuple[int, ...] | None, is_float: bool
) -> None:
    g = Graph({"x": shape})
    model = g.finish(g.op("HARD_SWISH", g.inputs, ("y", shape)))
    if signature:
        model.tensors[1].shapeSignature = np.array(signature, np.int32)
    reasons = {0: "its INT8 kernel is slower than float's and the conversions around it"}
    assert _plan(model).reasons == (reasons if is_float else {})


def test_integer_arithmetic_is_neither_int8_nor_float() -> None:
    g = Graph({})
    x = g.model.add_tensor("x", SHAPE, "INT32")
    g.inputs = [x]
    model = g.finish(g.op("ADD", [x, x], ("y", SHAPE), type_name="INT32", options="AddOptions"))
    plan = _plan(model)
    assert (dict(plan.rules), dict(plan.reasons)) == ({}, {})


def test_one_op_that_drops_out_takes_idle_neighbours_along() -> None:
    g = Graph({"x": SHAPE})
    root = g.op("RSQRT", g.inputs, ("r", SHAPE))
    model = g.finish(g.apply("RESHAPE", [root, g.integers([4])], (4,), options="ReshapeOptions"))
    plan = _plan(model)
    assert plan.reasons[0] == "its input is negative at times"
    assert plan.reasons[1] == "it only moves data, and nothing beside it runs in INT8"


def test_a_chain_of_movers_beside_an_int8_op_moves_int8() -> None:
    g = Graph({"x": SHAPE})
    flat = g.apply("RESHAPE", [g.inputs[0], g.integers([4])], (4,), options="ReshapeOptions")
    turned = g.apply("REVERSE_V2", [flat, g.integers([0])], (4,))
    model = g.finish(g.op("TANH", [turned], ("y", (4,))))
    assert sorted(_plan(model).rules) == [0, 1, 2]


def test_an_engine_with_kernels_of_its_own_takes_what_the_cpu_is_slow_in() -> None:
    g = Graph({"x": (1, 1024)})
    model = g.finish(g.op("ABS", [g.inputs[0]], ("y", (1, 1024))))
    table = table_of(dict.fromkeys(model.names(), WIDE))
    assert not make_plan(model, table, []).rules
    assert list(make_plan(model, table, [], every_kernel=True).rules) == [0]
