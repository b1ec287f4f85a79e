"""A model -> its convolutions and matrix products by their extents, for libraries that take one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq.tflite.model import Model, indices
from edgeq.tflite.schema import schema

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """x [n, h, w, c] -> y [n, oh, ow, oc]; a matrix product is one with 1 x 1 everywhere."""

    position: int  # of the op in the model
    n: int
    h: int
    w: int
    c: int
    oc: int
    oh: int
    ow: int
    size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    before: Pair = (0, 0)  # padding above, to the left
    after: Pair = (0, 0)

    @property
    def extents(self) -> tuple[Any, ...]:
        """Return what the time depends on."""
        return (self.n, self.h, self.w, self.c, self.oc, self.size, self.stride, self.dilation,
                self.before, self.after)  # fmt: skip

    @property
    def is_product(self) -> bool:
        """Say whether it is a matrix product as it lies in memory: [n * h * w, c] times [c, oc]."""
        plain = self.before == self.after == (0, 0)
        return plain and self.size == (1, 1) and self.stride == (1, 1)

    @property
    def rows(self) -> int:
        """Return the rows of that product."""
        return self.n * self.oh * self.ow

    @property
    def multiply_accumulates(self) -> int:
        """Return the products of one run."""
        return self.rows * self.oc * self.c * self.size[0] * self.size[1]

    def __str__(self) -> str:
        kernel = "x".join(map(str, self.size))
        return f"{self.n}x{self.h}x{self.w}x{self.c} {kernel}/{self.stride[0]} -> {self.oc}"


def convolutions(model: Model, batch: int = 1) -> list[Convolution]:
    """Return the CONV_2D and FULLY_CONNECTED ops of a model whose own batch is 1."""
    found = []
    for position, op in enumerate(model.operators):
        name = model.op_name(op)
        if name == "CONV_2D":
            found.append(_convolution(model, position, op, batch))
        elif name == "FULLY_CONNECTED":
            outputs, inputs = model.shape(indices(op.inputs)[1])
            rows = 1
            for extent in model.shape(indices(op.outputs)[0])[:-1]:
                rows *= extent
            found.append(Convolution(position, batch * rows, 1, 1, inputs, outputs, 1, 1))
    return found


def _convolution(model: Model, position: int, op: Any, batch: int) -> Convolution:
    x, weights = (model.shape(tensor) for tensor in indices(op.inputs)[:2])
    y = model.shape(indices(op.outputs)[0])
    options = op.builtinOptions
    size, stride = (weights[1], weights[2]), (options.strideH, options.strideW)
    dilation = (options.dilationHFactor, options.dilationWFactor)
    margins = [(0, 0), (0, 0)]
    if options.padding == schema.Padding.SAME:
        margins = [same_margins(x[1 + d], size[d], stride[d], dilation[d]) for d in range(2)]
    (top, bottom), (left, right) = margins
    return Convolution(
        position, batch * x[0], x[1], x[2], x[3], weights[0], y[1], y[2], size, stride, dilation,
        (top, left), (bottom, right),
    )  # fmt: skip


def same_margins(extent: int, size: int, stride: int, dilation: int) -> Pair:
    """Return what TensorFlow's SAME adds before and after one dimension."""
    span = (size - 1) * dilation + 1
    whole = max(0, (-(-extent // stride) - 1) * stride + span - extent)
    return whole // 2, whole - whole // 2
