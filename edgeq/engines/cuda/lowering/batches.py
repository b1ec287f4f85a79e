"""SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: one Move for each place inside a block."""

from __future__ import annotations

import itertools
import math

from edgeq.engines.cuda.lowering.boxes import strides
from edgeq.engines.cuda.lowering.draft import Draft, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.program.nodes import Axis, Move


def space_to_batch(draft: Draft, op: Op) -> None:
    """Lower SPACE_TO_BATCH_ND of images; padding holds y's zero point."""
    x, y, block, margins = _ends(draft, op)
    (n, h, w, c), (_, rows, columns, _) = draft.tensor(x).shape, draft.tensor(y).shape
    pitch, y_strides = strides((n, h, w, c)), strides(draft.tensor(y).shape)
    for place, (r, s) in enumerate(itertools.product(range(block[0]), range(block[1]))):
        axes = (
            Axis(n, extent=n, stride=pitch[0]),
            Axis(rows, r - margins[0], block[0], h, pitch[1]),
            Axis(columns, s - margins[2], block[1], w, pitch[2]),
            Axis(c, extent=c, stride=1),
        )
        offset = place * n * y_strides[0]
        draft.add(Move(x, y, axes, y_strides, offset, draft.tensor(y).zero_point))


def batch_to_space(draft: Draft, op: Op) -> None:
    """Lower BATCH_TO_SPACE_ND of images; what is cropped is not written."""
    x, y, block, crops = _ends(draft, op)
    (batches, h, w, c), (n, rows, columns, _) = draft.tensor(x).shape, draft.tensor(y).shape
    pitch, y_strides = strides((batches, h, w, c)), strides((n, rows, columns, c))
    for place, (r, s) in enumerate(itertools.product(range(block[0]), range(block[1]))):
        down, top = _written(r - crops[0], block[0], h, rows, pitch[1])
        across, left = _written(s - crops[2], block[1], w, columns, pitch[2])
        axes = (Axis(n, place * n, 1, batches, pitch[0]), down, across,
                Axis(c, extent=c, stride=1))  # fmt: skip
        steps = (y_strides[0], y_strides[1] * block[0], y_strides[2] * block[1], 1)
        if math.prod(axis.size for axis in axes):
            draft.add(Move(x, y, axes, steps, top * y_strides[1] + left * y_strides[2]))


def _written(at: int, block: int, extent: int, size: int, stride: int) -> tuple[Axis, int]:
    """Return which of x's indices lie in y at `at`, `at + block`, ...; and where the first does."""
    first = max(0, -(at // block))
    last = min(extent - 1, (size - 1 - at) // block)
    return Axis(max(0, last - first + 1), first, 1, extent, stride), at + first * block


def _ends(draft: Draft, op: Op) -> tuple[int, int, list[int], list[int]]:
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    source, result = draft.tensor(x), draft.tensor(y)
    require(source.scale == result.scale and source.zero_point == result.zero_point,
            "changes the scale")  # fmt: skip
    require(len(source.shape) == 4, "takes no image")
    return x, y, draft.integers(op.inputs[1]), draft.integers(op.inputs[2])
