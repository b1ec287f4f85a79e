"""Small Programs by hand, for the tests of the planner's passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.program.nodes import (
    Addition,
    Axis,
    Convolution,
    Datatype,
    Dense,
    Depthwise,
    Epilogue,
    Lookup,
    Mean,
    Move,
    Node,
    Program,
    Requantization,
    Reshape,
    Sum,
    Value,
    Window,
)

Array = npt.NDArray[Any]
ADDITION = Addition(2**19, 2**18, 2**19, 20, 3, -128, 127)
MIRRORED = Addition(2**18, 2**19, 2**19, 20, 3, -128, 127)


@dataclass
class Builder:
    """Appends nodes, each with a value of its own; finish() gives the Program."""

    inputs: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[int, Array] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))

    def value(self, *shape: int, datatype: Datatype = "int8") -> int:
        """Append a value."""
        self.values.append(Value(f"v{len(self.values)}", shape, datatype))
        return len(self.values) - 1

    def input(self, *shape: int, datatype: Datatype = "int8") -> int:
        """Append an input."""
        self.inputs.append(self.value(*shape, datatype=datatype))
        return self.inputs[-1]

    def constant(self, array: Array) -> int:
        """Append a constant int8 value."""
        index = self.value(*array.shape)
        self.constants[index] = array
        return index

    def convolution(self, x: int, channels: int, size: int = 1, padding: int = 0) -> int:
        """Append a convolution of stride 1."""
        n, h, w, c = self.shape(x)
        grown = 2 * padding - size + 1
        y = self.value(n, h + grown, w + grown, channels)
        weights = self._weights(channels, size, size, c)
        window = _window(size, padding)
        self.nodes.append(Convolution(x, y, weights, window, 5, self._epilogue(channels)))
        return y

    def depthwise(self, x: int, size: int = 3, padding: int = 1) -> int:
        """Append a depthwise convolution of stride 1."""
        n, h, w, c = self.shape(x)
        grown = 2 * padding - size + 1
        y = self.value(n, h + grown, w + grown, c)
        weights = self._weights(size, size, c)
        window = _window(size, padding)
        self.nodes.append(Depthwise(x, y, weights, window, 5, self._epilogue(c)))
        return y

    def dense(self, x: int, channels: int) -> int:
        """Append a fully-connected layer of all of x."""
        features = math.prod(self.shape(x))
        y = self.value(1, channels)
        weights = self._weights(channels, features)
        self.nodes.append(Dense(x, y, weights, 5, self._epilogue(channels)))
        return y

    def sum(self, a: int, b: int, addition: Addition = ADDITION) -> int:
        """Append a sum of two values of one shape."""
        y = self.value(*self.shape(a))
        self.nodes.append(Sum(a, b, y, addition))
        return y

    def lookup(self, x: int, seed: int = 0) -> int:
        """Append a table of random values."""
        y = self.value(*self.shape(x))
        table = np.random.default_rng(seed).integers(-128, 128, 256).astype(np.int8)
        self.nodes.append(Lookup(x, y, table))
        return y

    def mean(self, x: int) -> int:
        """Append a mean over height and width."""
        n, h, w, c = self.shape(x)
        y = self.value(n, c)
        scale = float(np.float32(1 / (h * w)))
        self.nodes.append(Mean(x, y, n, h * w, c, scale, 6.0, -128, 127))
        return y

    def reshape(self, x: int, *shape: int) -> int:
        """Append a reshape."""
        y = self.value(*shape)
        self.nodes.append(Reshape(x, y))
        return y

    def slice(self, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """Append a slice; outside x it is filled with 5, which makes it a PAD."""
        shape, y = self.shape(x), self.value(*size)
        strides = _dense(shape)
        axes = tuple(
            Axis(s, b, 1, n, stride)
            for s, b, n, stride in zip(size, begin, shape, strides, strict=True)
        )
        self.nodes.append(Move(x, y, axes, _dense(size), fill=5))
        return y

    def concatenation(self, parts: Sequence[int], axis: int = -1) -> int:
        """Append one Move a part."""
        shapes = [self.shape(part) for part in parts]
        whole = list(shapes[0])
        whole[axis] = sum(shape[axis] for shape in shapes)
        y, offset = self.value(*whole), 0
        for part, shape in zip(parts, shapes, strict=True):
            axes = tuple(Axis(n, 0, 1, n, s) for n, s in zip(shape, _dense(shape), strict=True))
            self.nodes.append(Move(part, y, axes, _dense(whole), offset))
            offset += shape[axis] * _dense(whole)[axis]
        return y

    def shape(self, value: int) -> tuple[int, ...]:
        """Return a value's shape."""
        return self.values[value].shape

    def finish(self, *outputs: int) -> Program:
        """Return the program."""
        labels = tuple(f"{type(node).__name__} {p}" for p, node in enumerate(self.nodes))
        inputs, values = tuple(self.inputs), tuple(self.values)
        return Program(values, tuple(self.nodes), inputs, outputs, self.constants, labels)

    def given(self) -> dict[int, Array]:
        """Return random int8 inputs."""
        return {
            i: self.random.integers(-128, 128, self.shape(i)).astype(np.int8) for i in self.inputs
        }

    def _weights(self, *shape: int) -> npt.NDArray[np.int8]:
        return self.random.integers(-127, 128, shape).astype(np.int8)

    def _epilogue(self, channels: int) -> Epilogue:
        bias = self.random.integers(-2000, 2000, channels).astype(np.int32)
        scale = self.random.uniform(0.001, 0.01, channels).astype(np.float32)
        return Epilogue(Requantization(bias, scale, -4, -128, 127))


def _window(size: int, padding: int) -> Window:
    return Window((size, size), (1, 1), before=(padding, padding), after=(padding, padding))


def _dense(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))
