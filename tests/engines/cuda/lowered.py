"""A model's program, evaluated by the formulas, against the CPU engine: how many bytes differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeq.engines.cuda.lowering.partition import CpuPart, GpuPart, Partition, partition
from edgeq.engines.cuda.program.nodes import Program
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.tiny import Array


def whole_program(model: Model) -> Program:
    """Return the program of a model that runs on the GPU as a whole."""
    parts = partition(model)
    assert parts.is_whole, parts.reasons
    (part,) = parts.parts
    assert isinstance(part, GpuPart)
    return part.program


def run_parts(parts: Partition, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return every tensor that crosses: GPU parts by their formulas, CPU parts by LiteRT."""
    known = dict(inputs)
    for part in parts.parts:
        given = {name: known[name] for name in part.inputs}
        if isinstance(part, CpuPart):
            known |= Runner(part.content).run(given)
        else:
            program = part.program
            values = evaluate(program, dict(zip(program.inputs, given.values(), strict=True)))
            known |= {n: values[v] for n, v in zip(part.outputs, program.outputs, strict=True)}
    return known


def differing_bytes(model: Model, samples: Iterable[Mapping[str, Array]]) -> int:
    """Return how many elements of the outputs differ from the CPU engine's, over all samples."""
    runner, parts, count = Runner(model.to_bytes()), partition(model), 0
    names = model.names()
    for sample in samples:
        known = run_parts(parts, sample)
        results = runner.run(sample).values()
        for tensor, expected in zip(model.outputs, results, strict=True):
            actual = known[names[tensor]]
            assert actual.dtype == expected.dtype
            assert actual.shape == expected.shape
            assert expected.dtype.kind != "f" or np.isfinite(expected).all()
            count += int(np.count_nonzero(actual != expected))
    return count


def everything_out(model: Model) -> Model:
    """Return the model with every int8 and float activation as an output."""
    tapped = model.copy()
    written = [int(t) for op in model.operators for t in op.outputs]
    shown = [t for t in written if model.type_name(t) in ("INT8", "FLOAT32")]
    tapped.graph.outputs = np.asarray(shown, np.int32)
    return Model.from_bytes(tapped.to_bytes())
