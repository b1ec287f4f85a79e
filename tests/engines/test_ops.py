"""Every op of the table runs in INT8, on XNNPACK and on the reference kernels, within its bound."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.quantize.scheme import CLIP_BOUNDS, RULES
from edgeq.tflite.model import Model, indices
from edgeq.tflite.runtime import Runner
from tests.engines.cases import CASES
from tests.engines.op_case import OpCase
from tests.quantize.minmax import minmax_table
from tests.tiny import Array


def int8_model(case: OpCase) -> Model:
    """Return the case in INT8, calibrated by its samples."""
    model = case.model()
    quantized = quantize(model, minmax_table(model, case.samples()))
    assert quantized.float_ops == ()
    return quantized.model


def _steps(model: Model) -> dict[str, tuple[float, int]]:
    """Return scale and zero point on the int8 side of each border, by the float side's name."""
    found = {}
    for operator in model.operators:
        pair = [*indices(operator.inputs), *indices(operator.outputs)]
        if model.op_name(operator) == "QUANTIZE":
            float_side, int8_side = pair
        elif model.op_name(operator) == "DEQUANTIZE":
            int8_side, float_side = pair
        else:
            continue
        parameters = model.quantization(int8_side)
        assert parameters is not None
        step = float(parameters.scale[0]), int(parameters.zero_point[0])
        found[model.name(float_side)] = step
    return found


def _on_grid(
    case: OpCase, sample: dict[str, Array], steps: dict[str, tuple[float, int]]
) -> dict[str, Array]:
    """Return the inputs as int8 holds them, a little inside the range that was calibrated."""
    centre, result = (case.low + case.high) / 2, {}
    for name, values in sample.items():
        scale, zero_point = steps[name]
        inside = centre + 0.98 * (values - centre)
        levels = np.clip(np.rint(inside / scale) + zero_point, -128, 127)
        result[name] = ((levels - zero_point) * scale).astype(np.float32)
    return result


@pytest.mark.parametrize("delegate", [True, False], ids=["xnnpack", "reference"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_int8_stays_within_the_bound_of_float(case: OpCase, delegate: bool) -> None:
    int8 = int8_model(case)
    steps = _steps(int8)
    float_runner = Runner(case.model().to_bytes(), delegate=False)
    int8_runner = Runner(int8.to_bytes(), delegate=delegate)
    for sample in case.samples():
        inputs = _on_grid(case, sample, steps)
        expected, actual = float_runner.run(inputs), int8_runner.run(inputs)
        for name, values in expected.items():
            step = steps[name][0] if name in steps else 1.0
            error = np.abs(actual[name].astype(float) - values).max() / step
            assert error <= (case.bound + 1e-3 if name in steps else 0), f"{name}: {error} steps"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_op_itself_computes_in_int8(case: OpCase) -> None:
    int8 = int8_model(case)
    name = "QUANTIZE" if case.op in CLIP_BOUNDS else case.op  # int8 saturates
    operators = [op for op in int8.operators if int8.op_name(op) == name]
    assert operators
    for operator in operators[-1:] if case.op in CLIP_BOUNDS else operators:
        inputs = indices(operator.inputs)
        data = [inputs[p] for p in RULES[case.op].data_positions(operator)]
        assert {int8.type_name(t) for t in data} == {"INT8"}
        assert "FLOAT32" not in {int8.type_name(t) for t in indices(operator.outputs)}


def test_every_rule_has_a_case() -> None:
    assert set(RULES) == {case.op for case in CASES}
