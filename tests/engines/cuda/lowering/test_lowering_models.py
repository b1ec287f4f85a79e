"""Whole trained nets: every activation of their programs is the CPU engine's, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.engines.cuda.lowering.graph import read
from edgeq.engines.cuda.lowering.partition import partition
from edgeq.engines.cuda.program.batch import with_batch
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.engines.cuda.int8_models import random_inputs
from tests.engines.cuda.lowered import differing_bytes, everything_out, whole_program
from tests.quantize.minmax import minmax_table
from tests.shared_models import calibration_samples, shared_tasks

pytestmark = pytest.mark.shared

NETS = (
    "resnet8_cifar10", "vww96", "kws_dscnn", "ad01", "mobilenet_v1_025_224", "ultraface_slim320",
    "deeplabv3_257",
)  # fmt: skip
REFERENCES = ("resnet8_cifar10", "vww96", "kws_dscnn", "ad01")


def int8_net(shared: Path, identifier: str) -> tuple[Model, dict[str, np.ndarray]]:
    """Return a trained net in INT8, and one of the inputs it is made for."""
    task = shared_tasks(shared)[identifier]
    model = Model.read(shared / "data" / task["model"])
    first, second = (s.inputs for s in calibration_samples(shared, task, 2))
    return quantize(model, minmax_table(model, [first])).model, second


@pytest.mark.parametrize("identifier", NETS)
def test_every_activation_of_a_net_is_the_cpu_engine_s(shared: Path, identifier: str) -> None:
    model, sample = int8_net(shared, identifier)
    assert partition(model).is_whole
    assert differing_bytes(everything_out(model), [sample]) == 0


@pytest.mark.parametrize("identifier", REFERENCES)
def test_a_net_quantized_elsewhere_gives_the_cpu_engine_s_bytes(
    shared: Path, identifier: str
) -> None:
    model = Model.read(shared / "data" / "reference" / f"{identifier}_int8_ref.tflite")
    assert partition(model).is_whole
    samples = [random_inputs(model, seed) for seed in range(2)]
    assert differing_bytes(everything_out(model), samples) == 0


def test_computed_shapes_become_plain_reshapes(shared: Path) -> None:
    graph = read(int8_net(shared, "ultraface_slim320")[0])
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & {op.name for op in graph.ops}
    assert [graph.tensors[t].shape for t in graph.outputs] == [(1, 4420, 4), (1, 4420, 2)]


@pytest.mark.parametrize("identifier", ["kws_dscnn", "ultraface_slim320"])
def test_a_batch_is_its_samples_one_by_one(shared: Path, identifier: str) -> None:
    model, sample = int8_net(shared, identifier)
    runner, program = Runner(model.to_bytes()), whole_program(model)
    ((name, values),) = sample.items()
    stacked = np.concatenate([values, values[:, ::-1] * 0.5])
    batched = evaluate(with_batch(program, 2), {program.inputs[0]: stacked})
    for index, one in enumerate(np.split(stacked, 2)):
        expected = runner.run({name: np.ascontiguousarray(one)})
        for value, answer in zip(program.outputs, expected.values(), strict=True):
            assert (np.split(batched[value], 2)[index] == answer).all()
