"""RESIZE_BILINEAR as XNNPACK has it, RESIZE_NEAREST_NEIGHBOR as LiteRT does."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.lowering.draft import Array, Draft, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.lowering.probe import Trial, run_alone
from edgeq.engines.cuda.program.nodes import BilinearResize, NearestResize

WEIGHT_BITS = 11


def bilinear(draft: Draft, op: Op) -> None:
    """Lower RESIZE_BILINEAR."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    require(draft.is_static(op.inputs[1]), "has a computed size, so another kernel computes it")
    source, result = draft.tensor(x), draft.tensor(y)
    require(source.scale == result.scale and source.zero_point == result.zero_point,
            "changes the scale")  # fmt: skip
    require(min(source.shape) > 0, "takes an empty tensor")
    rows, row_weights = _interpolated(op, source.shape[1], result.shape[1])
    columns, column_weights = _interpolated(op, source.shape[2], result.shape[2])
    draft.add(BilinearResize(x, y, rows, columns, row_weights, column_weights))


def _interpolated(op: Op, extent: int, size: int) -> tuple[Array, Array]:
    """Return the two indices that each output index reads, and the weight of the second.

    Source: xnn_indirection_init_resize_bilinear2d_hwc_q11 of indirection.c, all in float32.
    """
    aligned, one, half = bool(op.options["alignCorners"]), np.float32(1), np.float32(0.5)
    inner = np.float32(int(aligned and size != 1))
    scale = (np.float32(extent) - inner) / (np.float32(size) - inner)
    place = np.arange(size, dtype=np.float32) * scale
    if not aligned and op.options["halfPixelCenters"]:
        place = np.maximum(place + (half * scale - half), np.float32(0))
    place = np.minimum(place, np.float32(extent) - one)
    first = place.astype(np.int32)
    weight = np.rint((place - first.astype(np.float32)) * np.float32(1 << WEIGHT_BITS))
    pairs = np.stack([first, np.minimum(first + 1, extent - 1)], axis=1)
    return pairs.astype(np.int32), weight.astype(np.int32)


def nearest(draft: Draft, op: Op) -> None:
    """Lower RESIZE_NEAREST_NEIGHBOR: the op itself says where it reads, given x's own indices."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    _, height, width, _ = draft.tensor(x).shape
    places = np.zeros((1, height, width, 4), np.int32)
    rows, columns = np.arange(height)[:, np.newaxis], np.arange(width)[np.newaxis]
    for channel, index in enumerate((rows & 255, rows >> 8, columns & 255, columns >> 8)):
        places[0, :, :, channel] = index
    _, *size, _ = draft.tensor(y).shape
    trial = Trial({x: places.astype(np.uint8).view(np.int8)}, (1, *size, 4))
    result = run_alone(draft, op, trial)
    read = result.view(np.uint8).astype(np.int32)[0]
    draft.add(NearestResize(x, y, read[:, 0, 0] + 256 * read[:, 0, 1],
                            read[0, :, 2] + 256 * read[0, :, 3]))  # fmt: skip
