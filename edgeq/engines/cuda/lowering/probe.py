"""One op run alone by the CPU engine, on values of our choice: what it really computes here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.engines.cuda.graph import Op
from edgeq.engines.cuda.lowering.draft import Array, Draft, require
from edgeq.tflite.part import one_op
from edgeq.tflite.runtime import Runner


def run_alone(draft: Draft, op: Op, inputs: Mapping[int, Array], shape: tuple[int, ...]) -> Array:
    """Return the op's result, of `shape`; its other inputs are constants of the file.

    `inputs` are by tensor, in any shape that the op takes.
    """
    others = [t for t in op.inputs if t >= 0 and t not in inputs]
    require(all(draft.is_static(t) for t in others), "has computed inputs")
    shapes = {tensor: array.shape for tensor, array in inputs.items()}
    part, fed = one_op(draft.model, draft.model.operators[op.position], shapes)
    for index in part.inputs:
        part.tensors[index].buffer = 0  # a constant that is fed is none any more
    for index in part.outputs:
        part.tensors[index].shape = np.asarray(shape, np.int32)
        part.tensors[index].shapeSignature = None
    runner = Runner(part.to_bytes())
    given = {s.name: inputs[t].astype(s.dtype) for s, t in zip(runner.inputs, fed, strict=True)}
    return runner.run(given)[runner.outputs[0].name]
