"""A small model one op of which does badly in INT8, and samples for it."""

from __future__ import annotations

import numpy as np

from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests import tiny
from tests.build_samples import drawn, sample

CONVOLUTION = {"padding": schema.Padding.SAME, "strideH": 1, "strideW": 1,
               "dilationHFactor": 1, "dilationWFactor": 1}  # fmt: skip


def chain(*, huge_weight_at: int = -1, wide_channel: float = 1.0) -> Model:
    """1x1 conv, depthwise, 1x1 conv, 1x1 conv: 'x' [1, 6, 6, 4], its last channel always 0.

    `huge_weight_at`: the op whose weights hold a value that meets only zeros, but takes all the
    steps of its channel. `wide_channel`: by how much one depthwise channel exceeds the others.
    """
    draw = np.random.default_rng(3)
    g = tiny.GraphBuilder({"x": (1, 6, 6, 4)})
    x = 0
    for position, name in enumerate(["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONV_2D"]):
        is_depthwise = name == "DEPTHWISE_CONV_2D"
        weights = draw.normal(size=(1, 3, 3, 4) if is_depthwise else (4, 1, 1, 4)) * 0.5
        if not is_depthwise:
            weights[:3, :, :, 3] = 200.0 if position == huge_weight_at else 0.0
            weights[3] = 0.0  # what writes the dead channel
        elif wide_channel != 1.0:
            weights[..., 0] *= wide_channel
        kernel = g.constant(f"w{position}", weights.astype(np.float32))
        bias = g.constant(f"b{position}", np.zeros(4, np.float32))
        options = {"depthMultiplier": 1} if is_depthwise else {}
        x = g.op(name, [x, kernel, bias], (f"y{position}", (1, 6, 6, 4)),
                 options="DepthwiseConv2DOptions" if is_depthwise else "Conv2DOptions",
                 **CONVOLUTION, **options)  # fmt: skip
    return g.finish(x)


def dead_channel_samples(count: int = 12) -> list[Sample]:
    alive = np.array([1, 1, 1, 0], np.float32)
    return [sample(x=each.inputs["x"] * alive) for each in drawn(count, x=(1, 6, 6, 4))]
