"""One op run alone by the CPU engine, on values of our choice: what it really computes here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edgeq.engines.cuda.lowering.draft import Array, Draft, Refusal, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.program.nodes import Extremum, MatrixProduct, Product, Program, Sum, Value
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.tflite.part import one_op
from edgeq.tflite.runtime import Runner

Binary = TypeVar("Binary", Sum, Extremum, Product, MatrixProduct)


@dataclass(frozen=True, eq=False)
class Trial:
    """What an op is fed, by tensor, in any shapes that it takes; and its result's shape.

    Inputs that are not fed are constants of the file.
    """

    inputs: Mapping[int, Array]
    shape: tuple[int, ...]


def run_alone(draft: Draft, op: Op, trial: Trial) -> Array:
    """Return the op's first output."""
    others = [t for t in op.inputs if t >= 0 and t not in trial.inputs]
    require(all(draft.is_static(t) for t in others), "has computed inputs")
    shapes = {tensor: array.shape for tensor, array in trial.inputs.items()}
    part, fed = one_op(draft.model, draft.model.operators[op.position], shapes)
    for index in part.inputs:
        part.tensors[index].buffer = 0  # a constant that is fed is none any more
    for index in part.outputs:
        part.tensors[index].shape = np.asarray(trial.shape, np.int32)
        part.tensors[index].shapeSignature = None
    runner = Runner(part.to_bytes())
    pairs = zip(runner.inputs, fed, strict=True)
    results = runner.run({spec.name: trial.inputs[t].astype(spec.dtype) for spec, t in pairs})
    return results[runner.outputs[0].name]


def as_computed_here(
    draft: Draft, op: Op, nodes: Sequence[Binary], trials: Iterable[Trial]
) -> Binary:
    """Return the first of some nodes that gives what this CPU's kernel gives in every trial.

    Raises:
        Refusal: none does.
    """
    left = list(nodes)
    for trial in trials:
        expected = run_alone(draft, op, trial)
        left = [node for node in left if (_evaluated(draft, op, node, trial) == expected).all()]
    if not left:
        raise Refusal("is computed otherwise by this CPU")
    return left[0]


def _evaluated(draft: Draft, op: Op, node: Binary, trial: Trial) -> Array:
    a, b = (trial.inputs[t] if t in trial.inputs else draft.constant(t) for t in op.inputs)
    shapes = {"a": a.shape, "b": b.shape, "y": trial.shape}
    values = tuple(Value(name, shape, "int8") for name, shape in shapes.items())
    alone = dataclasses.replace(node, a=0, b=1, y=2)
    return evaluate(Program(values, (alone,), (0, 1), (2,)), {0: a, 1: b})[2]
