"""What an op case is, and the builder that makes its tiny float model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.tflite.model import Model
from edgeq.tflite.schema import schema
from tests.tiny import Array, GraphBuilder

FUSED = schema.ActivationFunctionType

Build = Callable[["Graph"], None]


@dataclass(frozen=True)
class OpCase:
    """One model and its bound in steps of the output's scale."""

    name: str
    op: str
    inputs: tuple[tuple[int, ...], ...]
    build: Build
    bound: float = 1.0
    low: float = -3.0
    high: float = 3.0

    def model(self) -> Model:
        """Return the float model; its inputs are 'x0', 'x1', ..."""
        graph = Graph({f"x{i}": shape for i, shape in enumerate(self.inputs)})
        self.build(graph)
        return graph.finish(*graph.results)

    def samples(self, count: int = 8) -> list[dict[str, Array]]:
        """Return seeded inputs, uniform in [low, high]."""
        random = np.random.default_rng(7)
        return [
            {
                f"x{i}": random.uniform(self.low, self.high, shape).astype(np.float32)
                for i, shape in enumerate(self.inputs)
            }
            for _ in range(count)
        ]


class Graph(GraphBuilder):
    """A GraphBuilder that makes grid weights and collects results."""

    def __init__(self, inputs: dict[str, Sequence[int]]) -> None:
        super().__init__(inputs)
        self.results: list[int] = []
        self._random = np.random.default_rng(3)

    def weights(self, shape: Sequence[int], axis: int) -> int:
        """Append float weights that int8 holds exactly: each channel has its own step."""
        levels = self._random.integers(-127, 128, shape)
        channels = np.moveaxis(levels, axis, 0)
        channels.reshape(len(channels), -1)[:, 0] = 127
        np.moveaxis(levels, axis, 0)[...] = channels
        steps = 2.0 ** -self._random.integers(9, 11, len(channels))
        extents = [1] * len(shape)
        extents[axis] = -1
        values = (levels * steps.reshape(extents)).astype(np.float32)
        return self.constant(f"weights{len(self.model.tensors)}", values)

    def bias(self, channels: int) -> int:
        """Append a bias."""
        values = self._random.normal(size=channels).astype(np.float32)
        return self.constant(f"bias{len(self.model.tensors)}", values)

    def integers(self, values: Any, type_name: str = "INT32") -> int:
        """Append an integer constant: axes, shapes, paddings."""
        array = np.asarray(values, {"INT32": np.int32, "INT64": np.int64}[type_name])
        return self.constant(f"constant{len(self.model.tensors)}", array, type_name)

    def floats(self, values: Any) -> int:
        """Append a float constant."""
        return self.constant(f"constant{len(self.model.tensors)}", np.asarray(values, np.float32))

    def apply(self, name: str, inputs: Sequence[int], shape: Sequence[int], **fields: Any) -> int:
        """Append an op with an activation as output."""
        return self.op(name, inputs, (f"t{len(self.model.tensors)}", shape), **fields)

    def apply_many(
        self, name: str, inputs: Sequence[int], shapes: Sequence[Sequence[int]], **fields: Any
    ) -> list[int]:
        """Append an op with several outputs."""
        first = self.apply(name, inputs, shapes[0], **fields)
        more = [
            self.model.add_tensor(f"{first}.{i}", s, "FLOAT32") for i, s in enumerate(shapes[1:])
        ]
        self.model.operators[-1].outputs = np.asarray([first, *more], np.int32)
        return [first, *more]

    def computed(self, index: int) -> int:
        """Return input `index` behind an op that computes in INT8 without changing a value."""
        tensor = self.inputs[index]
        return self.apply(
            "MAXIMUM", [tensor, tensor], self.model.shape(tensor), options="MaximumMinimumOptions"
        )

    def result(self, *tensors: int) -> None:
        """Make tensors outputs of the graph."""
        self.results.extend(tensors)
