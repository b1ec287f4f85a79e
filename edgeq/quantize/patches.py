"""A convolution and the frames it reads -> what its kernel sees at some places, as matrix rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.schema import schema

Array = npt.NDArray[Any]

MAX_PLACES = 1 << 13
MAX_VALUES = 1 << 22  # of all patches together: wide kernels take fewer places
GOLDEN = 0.6180339887498949  # steps of this share of the whole fall evenly and hit no rhythm


def patches(
    operator: Any, kernel: tuple[int, int], frames: Sequence[Array], padding_value: int
) -> Array:
    """Return the values under the kernel at evenly spread places of all frames.

    Args:
        operator: a CONV_2D or DEPTHWISE_CONV_2D; its stride, dilation and padding are applied.
        kernel: height and width.
        frames: [N, H, W, C] each, of one shape.
        padding_value: what the kernel sees beyond the border.

    Returns:
        [places, height, width, C], at most MAX_PLACES places.
    """
    options = operator.builtinOptions
    stacked = np.concatenate(frames)
    strides = (int(options.strideH), int(options.strideW))
    dilations = (int(options.dilationHFactor), int(options.dilationWFactor))
    same = int(options.padding) == schema.Padding.SAME
    extents, margins = [], [(0, 0)]
    for axis in (0, 1):
        size, reach = stacked.shape[1 + axis], (kernel[axis] - 1) * dilations[axis] + 1
        extent = -(-size // strides[axis]) if same else (size - reach) // strides[axis] + 1
        missing = max((extent - 1) * strides[axis] + reach - size, 0) if same else 0
        extents.append(extent)
        margins.append((missing // 2, missing - missing // 2))
    padded = np.pad(stacked, [*margins, (0, 0)], constant_values=padding_value)
    frame, place = np.divmod(
        spread(len(stacked) * extents[0] * extents[1], kernel[0] * kernel[1] * stacked.shape[3]),
        extents[0] * extents[1],
    )
    row, column = np.divmod(place, extents[1])
    rows = row[:, None] * strides[0] + np.arange(kernel[0]) * dilations[0]
    columns = column[:, None] * strides[1] + np.arange(kernel[1]) * dilations[1]
    found: Array = padded[frame[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found


def spread(places: int, values_per_place: int) -> Array:
    """Return ascending indices below `places`: all, or as many as MAX_PLACES and MAX_VALUES allow.

    Too many are thinned by steps of the golden ratio, the same ones every time.
    """
    most = max(1, min(MAX_PLACES, MAX_VALUES // max(values_per_place, 1)))
    if places <= most:
        return np.arange(places)
    return np.unique((np.arange(1, most + 1) * GOLDEN % 1.0 * places).astype(np.int64))
