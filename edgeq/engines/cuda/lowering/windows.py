"""An op's strides, dilations and padding -> the Window of its node."""

from __future__ import annotations

from edgeq.engines.cuda.lowering.draft import require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.program.nodes import Pair, Window
from edgeq.tflite.schema import schema


def window(op: Op, size: Pair, x: tuple[int, ...], y: tuple[int, ...]) -> Window:
    """Return how a kernel of `size` slides over x [N, H, W, C] to give y."""
    stride, dilation = _strides(op), _dilation(op)
    totals = [
        max(0, (y[1 + d] - 1) * stride[d] + (size[d] - 1) * dilation[d] + 1 - x[1 + d])
        if is_same(op)
        else 0
        for d in range(2)
    ]
    before = (totals[0] // 2, totals[1] // 2)
    after = (totals[0] - before[0], totals[1] - before[1])
    return Window(size, stride, dilation, before, after)


def scattering_window(op: Op, size: Pair, x: tuple[int, ...], y: tuple[int, ...]) -> Window:
    """Return the Window of a transposed convolution: what is cut off, or negative what is left."""
    stride = _strides(op)
    spare = [(x[1 + d] - 1) * stride[d] + size[d] - y[1 + d] for d in range(2)]
    before = [max(0, s) // 2 if is_same(op) else 0 for s in spare]
    return Window(size, stride, before=(before[0], before[1]),
                  after=(spare[0] - before[0], spare[1] - before[1]))  # fmt: skip


def is_same(op: Op) -> bool:
    """Say whether the op pads so that y has x's extents over its strides."""
    return int(op.options["padding"]) == int(schema.Padding.SAME)


def _strides(op: Op) -> Pair:
    stride = _pair(op, "strideH", "strideW")
    require(min(stride) > 0, f"has the strides {list(stride)}")
    return stride


def _pair(op: Op, height: str, width: str) -> Pair:
    return int(op.options[height]), int(op.options[width])


def _dilation(op: Op) -> Pair:
    if "dilationHFactor" not in op.options:
        return 1, 1
    return _pair(op, "dilationHFactor", "dilationWFactor")
