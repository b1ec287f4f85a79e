"""Whole nets, from the INT8 file to kernels on poisoned memory: the CPU engine's bytes.

Once as g++ compiles the kernels, once as NVRTC does.

A last softmax hides small differences, so each net ends before it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgeq.engines.cuda.lowering.partition import GpuPart, partition
from edgeq.engines.cuda.planning.plan import make_plan
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.targets import Target
from edgeq.tflite.logits import before_softmax
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.engines.cuda.harness import MakeMachine
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.plans import run_plan
from tests.tiny import Array
from tools.compile_everything import SHARED, int8_models

MACHINES = pytest.mark.parametrize(
    "machine", [EmulatedMachine, InterpretedMachine], ids=["emulated", "ptx"]
)
ORIN = 87
OTHERS = (53, 62, 72, 75, 90)  # a kernel family each, and the widest
SMALL = ("digits", "kws_dscnn", "resnet8_cifar10_int8_ref")
LARGE = (
    "resnet8_cifar10", "vww96", "ad01", "mobilenet_v1_025_224", "ultraface_slim320",
    "deeplabv3_257", "vww96_int8_ref", "ad01_int8_ref", "kws_dscnn_int8_ref",
)  # fmt: skip


@functools.cache
def _models() -> Mapping[str, Model]:
    return {name: before_softmax([model])[0][0] for name, model in int8_models()}


@functools.cache
def _program(name: str) -> Program:
    (part,) = partition(_models()[name]).parts
    assert isinstance(part, GpuPart)
    return part.program


@functools.cache
def _answers(name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    runner, random = Runner(_models()[name].to_bytes()), np.random.default_rng(5)
    given: dict[str, Array] = {}
    for spec in runner.inputs:
        if np.dtype(spec.dtype) == np.float32:
            given[spec.name] = random.normal(size=spec.shape).astype(np.float32)
        else:
            given[spec.name] = random.integers(-128, 128, spec.shape).astype(spec.dtype)
    return given, runner.run(given)


def _check(name: str, sm: int, machine: MakeMachine) -> None:
    given, expected = _answers(name)
    actual = run_plan(make_plan(_program(name), Target(sm)), given, machine, seed=3)
    for output, values in expected.items():
        differing = int((actual[output].view(np.uint8) != values.view(np.uint8)).sum())
        assert differing == 0, f"{output}: {differing} of {values.nbytes} bytes differ"


@MACHINES
@pytest.mark.parametrize("sm", [ORIN, *OTHERS])
def test_the_repo_s_own_net_gives_the_cpu_engine_s_bytes(sm: int, machine: MakeMachine) -> None:
    _check("digits", sm, machine)


@pytest.mark.shared
@MACHINES
@pytest.mark.parametrize("name", [*SMALL[1:], *LARGE])
def test_a_real_net_gives_the_cpu_engine_s_bytes(
    name: str, machine: MakeMachine, shared: Path
) -> None:
    assert shared == SHARED
    _check(name, ORIN, machine)


@pytest.mark.shared
@MACHINES
@pytest.mark.parametrize("sm", OTHERS)
@pytest.mark.parametrize("name", SMALL[1:])
def test_every_kernel_family_gives_the_same_bytes(
    name: str, sm: int, machine: MakeMachine, shared: Path
) -> None:
    assert shared == SHARED
    _check(name, sm, machine)


@pytest.mark.shared
def test_every_real_net_is_here(shared: Path) -> None:
    assert shared == SHARED
    assert {*_models()} == {*SMALL, *LARGE}
