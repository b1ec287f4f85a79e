"""Ops at odd extents, strides, scales and zero points give the CPU engine's bytes, every one."""

from __future__ import annotations

import zlib

import pytest

from edgeq.engines.cuda.lowering.partition import partition
from edgeq.tflite.schema import schema
from tests.engines.cuda.int8_models import Grid, Int8Model, random_inputs
from tests.engines.cuda.lowered import differing_bytes
from tests.engines.cuda.odd_models import ODD, Odd

RELU6 = schema.ActivationFunctionType.RELU6
RELU_N1_TO_1 = schema.ActivationFunctionType.RELU_N1_TO_1
MODELS_OF_EACH = 12


@pytest.mark.parametrize("name", ODD)
def test_an_odd_op_gives_the_cpu_engine_s_bytes(name: str) -> None:
    first = zlib.crc32(name.encode())
    for seed in range(first, first + MODELS_OF_EACH):
        model = ODD[name](Odd(seed))
        assert partition(model).is_whole, f"seed {seed}"
        samples = [random_inputs(model, sample) for sample in range(3)]
        assert differing_bytes(model, samples) == 0, f"seed {seed}"


@pytest.mark.parametrize("zero_point", [-3, 0, 5])
@pytest.mark.parametrize("fused", [RELU6, RELU_N1_TO_1])
def test_a_bound_midway_between_levels_is_the_cpu_engine_s(fused: int, zero_point: int) -> None:
    """6 is 1.5 steps of 4, and 1 half a step of 2: XNNPACK rounds to even, LiteRT away from 0."""
    g, grid = Int8Model(), Grid(4.0 if fused == RELU6 else 2.0, zero_point)
    x, added, pooled, largest = (
        g.input((1, 4, 4, 2), grid),
        *(g.activation((1, 4, 4, 2), grid) for _ in range(3)),
    )
    g.op("ADD", [x, g.levels((1, 4, 4, 2), grid)], added, "Add", fusedActivationFunction=fused)
    window = {"strideH": 1, "strideW": 1, "filterHeight": 2, "filterWidth": 2}
    for name, y in (("AVERAGE_POOL_2D", pooled), ("MAX_POOL_2D", largest)):
        g.op(name, [x], y, "Pool2D", fusedActivationFunction=fused, **window)
    model = g.finish(added, pooled, largest)
    assert partition(model).is_whole
    assert differing_bytes(model, [random_inputs(model, seed) for seed in range(4)]) == 0
