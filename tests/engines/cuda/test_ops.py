"""The op table on the GPU engine: from the flatbuffer to bytes that equal the CPU engine's."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import pytest

from edgeq.engines.cuda.lowering.partition import CpuPart, GpuPart, partition
from edgeq.engines.cuda.planning.plan import make_plan
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.targets import Target
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.engines.cases import CASES
from tests.engines.cuda.harness import MakeMachine
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.plans import run_plan
from tests.engines.op_case import OpCase
from tests.quantize.minmax import minmax_table
from tests.tiny import Array

# Rows that the CPU engine runs instead, and why: what the report says of them.
ON_CPU = {
    "SQUARED_DIFFERENCE": "SQUARED_DIFFERENCE of two values has no kernel",
    "REDUCE_MAX": "REDUCE_MAX has no kernel",
    "REDUCE_MIN": "REDUCE_MIN has no kernel",
    "LOG_SOFTMAX": "LOG_SOFTMAX has no kernel",
    "L2_NORMALIZATION": "L2_NORMALIZATION has no kernel",
    "GATHER_ND": "GATHER_ND has no kernel",
    "SELECT": "SELECT has no kernel",
    "SELECT_V2": "SELECT_V2 has no kernel",
    "ARG_MAX": "ARG_MAX has no kernel",
    "ARG_MIN": "ARG_MIN has no kernel",
}
WHOLE = [case for case in CASES if case.name not in ON_CPU]
OTHERS = [case for case in CASES if case.name in ON_CPU]
# Ops whose kernels depend on the architecture; all others are the same source for every target.
BY_TARGET = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
PRODUCTS = [case for case in WHOLE if case.op in BY_TARGET]
ORIN, XAVIER, TURING, NANO, HOPPER = Target(87), Target(72), Target(75), Target(53), Target(90)


@functools.cache
def int8_model(case: OpCase) -> Model:
    model = case.model()
    return quantize(model, minmax_table(model, case.samples())).model


@functools.cache
def program(case: OpCase) -> Program:
    (part,) = partition(int8_model(case)).parts
    assert isinstance(part, GpuPart)
    return part.program


@functools.cache
def expected(case: OpCase) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return inputs and what the CPU engine makes of them."""
    inputs = {name: values * 1.2 for name, values in case.samples(1)[0].items()}  # some saturate
    return inputs, Runner(int8_model(case).to_bytes(), delegate=True).run(inputs)


def check(case: OpCase, target: Target, machine: MakeMachine) -> None:
    inputs, outputs = expected(case)
    hold_to(outputs, run_plan(make_plan(program(case), target), inputs, machine))


def hold_to(outputs: Mapping[str, Array], got: Mapping[str, Array]) -> None:
    assert got.keys() == outputs.keys()
    for name, values in outputs.items():
        assert (got[name].dtype, got[name].shape) == (values.dtype, values.shape)
        differing = int((got[name].view(np.uint8) != values.view(np.uint8)).sum())
        assert differing == 0, f"{name}: {differing} of {values.nbytes} bytes differ"


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_emulated_kernels_give_the_cpu_engine_s_bytes(case: OpCase) -> None:
    check(case, ORIN, EmulatedMachine)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_interpreted_ptx_gives_the_cpu_engine_s_bytes(case: OpCase) -> None:
    check(case, ORIN, InterpretedMachine)


@pytest.mark.parametrize("target", [NANO, XAVIER, TURING], ids=lambda target: target.name)
@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: case.name)
def test_every_architecture_s_kernels_give_the_same_bytes(case: OpCase, target: Target) -> None:
    check(case, target, EmulatedMachine)


@pytest.mark.parametrize("target", [NANO, TURING, HOPPER], ids=lambda target: target.name)
@pytest.mark.parametrize("case", PRODUCTS[::6], ids=lambda case: case.name)
def test_every_architecture_s_ptx_gives_the_same_bytes(case: OpCase, target: Target) -> None:
    check(case, target, InterpretedMachine)


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_what_has_no_kernel_is_the_cpu_engine_s(case: OpCase) -> None:
    inputs, outputs = expected(case)
    found = partition(int8_model(case))
    (part,) = found.parts
    assert isinstance(part, CpuPart)
    assert ON_CPU[case.name] in {reason.reason for reason in found.reasons}
    hold_to(outputs, Runner(part.content, delegate=True).run(inputs))
