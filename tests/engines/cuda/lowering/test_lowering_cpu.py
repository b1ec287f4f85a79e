"""Lowering follows the CPU it runs on: tables and roundings are those of its own kernels."""

from __future__ import annotations

import dataclasses
import math
import platform
from typing import Any

import numpy as np
import pytest

from edgeq.engines.cuda.lowering import elementwise, probe, reductions
from edgeq.engines.cuda.lowering.confirm import confirm
from edgeq.engines.cuda.lowering.draft import Draft
from edgeq.engines.cuda.lowering.graph import Op, read
from edgeq.engines.cuda.lowering.partition import partition
from edgeq.engines.cuda.lowering.probe import Trial
from edgeq.engines.cuda.lowering.table import lower
from edgeq.engines.cuda.program.nodes import Product
from edgeq.tflite.model import Model
from tests.engines.cuda.int8_models import Grid, Int8Model
from tests.engines.cuda.lowered import whole_program
from tests.engines.cuda.odd_models import ODD, Odd
from tests.tiny import Array

GRIDS = Grid(0.5, 3), Grid(0.25, -9), Grid(0.5, 5)  # halves: the roundings differ


def multiplied() -> Model:
    g = Int8Model()
    a, b = g.input((2, 9), GRIDS[0]), g.input((2, 9), GRIDS[1])
    y = g.activation((2, 9), GRIDS[2])
    g.op("MUL", [a, b], y, "Mul")
    return g.finish(y)


def as_on_arm(_: Draft, op: Op, trial: Trial) -> Array:
    """XNNPACK's qs8-vmul-minmax-rndnu for NEON, one instruction after the other."""
    a, b = (trial.inputs[t].astype(object) for t in op.inputs)
    bits = int(np.float32(0.25).view(np.uint32))
    multiplier, shift = ((bits & 0x7FFFFF) | 0x800000) << 7, 126 - (bits >> 23)
    post = max(shift, 1)
    shifted = (a - 3) * (b + 9) * 2 ** (post - shift)  # vqshlq_s32
    doubled = (2 * shifted * multiplier) >> 32  # vqdmulhq_s32
    rounded = (doubled + (1 << (post - 1))) >> post  # vrshlq_s32
    return np.clip((rounded + 5).astype(np.int64), -128, 127).astype(np.int8)


def test_a_product_rounds_as_an_arm_does_where_the_cpu_does(monkeypatch: Any) -> None:
    (here,) = whole_program(multiplied()).nodes
    monkeypatch.setattr(probe, "run_alone", as_on_arm)
    (there,) = whole_program(multiplied()).nodes
    assert isinstance(here, Product)
    assert isinstance(there, Product)
    assert here.fixed is None
    assert there.fixed is not None


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
def test_an_op_that_this_cpu_computes_otherwise_stays_on_it(name: str, monkeypatch: Any) -> None:
    def otherwise(*arguments: Any) -> Array:
        return np.zeros(arguments[2].shape, np.int8)

    monkeypatch.setattr(probe, "run_alone", otherwise)
    model = multiplied()
    model.operators[0].opcodeIndex = model.opcode_index(name, 2)
    model.operators[0].builtinOptions = None
    (reason,) = partition(model).reasons
    assert reason.reason == f"{name} is computed otherwise by this CPU"


def test_a_depthwise_convolution_with_one_scale_stays_on_an_arm(monkeypatch: Any) -> None:
    g = Int8Model()
    x, y = g.input((1, 4, 4, 1)), g.activation((1, 4, 4, 1))
    g.op("DEPTHWISE_CONV_2D", [x, g.weights((1, 3, 3, 1), 3), g.bias(1)], y, "DepthwiseConv2D",
         version=3, strideH=1, strideW=1, depthMultiplier=1)  # fmt: skip
    model = g.finish(y)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert partition(model).is_whole
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "rounds otherwise on ARM" in partition(model).reasons[0].reason


@pytest.mark.parametrize("scale", [2.0**-16, 0.001, 0.4999, 0.5, 0.75, 1.0, 2.0, 200.0])
def test_a_fixed_point_is_its_scale(scale: float) -> None:
    fixed = elementwise.fixed_point(float(np.float32(scale)))
    assert 2**30 <= fixed.multiplier < 2**31
    assert fixed.right >= 1
    assert math.isclose(
        fixed.multiplier * 2.0 ** (fixed.left - fixed.right - 31), np.float32(scale)
    )


def test_exponentials_are_those_of_c() -> None:
    steps = np.linspace(-20, 0, 500, dtype=np.float32)
    found = reductions.exponentials(steps)
    nearest = np.exp(steps.astype(np.float64)).astype(np.float32)
    assert found.dtype == np.float32
    assert np.abs(found.view(np.int32) - nearest.view(np.int32)).max() <= 1


@pytest.mark.parametrize("name", ["CONV_2D", "MEAN", "SOFTMAX", "RESIZE_BILINEAR", "QUANTIZE",
                                  "QUANTIZE-unsigned", "DEQUANTIZE", "TANH"])  # fmt: skip
def test_an_op_that_this_cpu_computes_alike_is_confirmed(name: str) -> None:
    assert partition(ODD[name](Odd(3)), confirmed=True).is_whole


@pytest.mark.parametrize(("name", "field", "value"), [("MEAN", "offset", 3.5),
                                                      ("SOFTMAX", "scale", 0.02)])  # fmt: skip
def test_an_op_that_differs_on_this_cpu_is_given_back(name: str, field: str, value: float) -> None:
    model = ODD[name](Odd(3))
    graph = read(model)
    lowering = lower(model, graph)
    (own,) = lowering.ops
    wrong = dataclasses.replace(own.nodes[0], **{field: value})
    tampered = dataclasses.replace(own, nodes=(wrong,))
    (found,) = confirm(model, graph, dataclasses.replace(lowering, ops=(tampered,))).ops
    assert found.nodes == ()
    assert found.reason.startswith(f"{name} is computed otherwise by this CPU, in ")
