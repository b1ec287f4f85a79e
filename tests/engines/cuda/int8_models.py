"""INT8 models of a few ops with any scale and zero point, as no calibration would give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.quantize.affine import per_tensor
from edgeq.tflite.model import Model, Quantization
from edgeq.tflite.schema import schema
from tests.tiny import Array, empty_model

TYPES = {"INT8": np.int8, "INT32": np.int32, "FLOAT32": np.float32}


@dataclass(frozen=True)
class Grid:
    """A tensor's scale and zero point."""

    scale: float = 0.05
    zero_point: int = 0


PLAIN = Grid()


class Int8Model:
    """Appends tensors and ops; `finish` gives the model.

    With `halves`, weights have powers of two as scales, so that results lie midway between levels.
    """

    def __init__(self, seed: int = 0, *, halves: bool = False) -> None:
        self.model = empty_model()
        self._halves = halves
        self.random = np.random.default_rng(seed)
        self._inputs: list[int] = []

    def input(self, shape: Sequence[int], grid: Grid = PLAIN, type_name: str = "INT8") -> int:
        """Append an input."""
        self._inputs.append(self.activation(shape, grid, type_name))
        return self._inputs[-1]

    def activation(self, shape: Sequence[int], grid: Grid = PLAIN, type_name: str = "INT8") -> int:
        """Append a tensor that an op writes."""
        quantized = type_name.endswith("INT8")
        parameters = per_tensor(grid.scale, grid.zero_point) if quantized else None
        name = f"t{len(self.model.tensors)}"
        return self.model.add_tensor(name, shape, type_name, quantization=parameters)

    def weights(self, shape: Sequence[int], axis: int, scale: float = 0.01) -> int:
        """Append random int8 weights with a scale for each index of `axis`."""
        channels = shape[axis]
        scales = (scale * self.random.uniform(0.5, 1.5, channels)).astype(np.float32)
        if self._halves:
            scales = np.exp2(np.rint(np.log2(scales)))
        values = self.random.integers(-127, 128, shape)
        return self.constant(
            values, "INT8", Quantization(scales, np.zeros(channels, np.int64), axis)
        )

    def bias(self, channels: int, limit: int = 20_000) -> int:
        """Append a random int32 bias."""
        values = self.random.integers(-limit, limit + 1, channels)
        parameters = Quantization(np.ones(channels, np.float32), np.zeros(channels, np.int64))
        return self.constant(values, "INT32", parameters)

    def levels(self, shape: Sequence[int], grid: Grid = PLAIN) -> int:
        """Append random int8 values as a constant activation."""
        values = self.random.integers(-128, 128, shape)
        return self.constant(values, "INT8", per_tensor(grid.scale, grid.zero_point))

    def constant(
        self, values: Any, type_name: str = "INT32", quantization: Quantization | None = None
    ) -> int:
        """Append a constant."""
        array = np.asarray(values, TYPES[type_name])
        name = f"constant{len(self.model.tensors)}"
        return self.model.add_tensor(
            name, array.shape, type_name, values=array, quantization=quantization
        )

    def op(
        self,
        name: str,
        inputs: Sequence[int],
        output: int | Sequence[int],
        options: str | None = None,
        *,
        version: int = 2,
        **fields: Any,
    ) -> int:
        """Append an op with its options' table; return its first output."""
        outputs = [output] if isinstance(output, int) else list(output)
        operator = self.model.make_operator(name, version, inputs, outputs)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{options}Options")
            operator.builtinOptions = getattr(schema, f"{options}OptionsT")(**fields)
        self.model.operators.append(operator)
        return outputs[0]

    def finish(self, *outputs: int) -> Model:
        """Name inputs and outputs; return the model as a file would give it."""
        self.model.graph.inputs = np.asarray(self._inputs, np.int32)
        self.model.graph.outputs = np.asarray(outputs, np.int32)
        return Model.from_bytes(self.model.to_bytes())


def random_inputs(model: Model, seed: int = 0) -> dict[str, Array]:
    """Return one input of the model; of seed 1 the ends of int8 only."""
    random, names = np.random.default_rng(seed), model.names()
    inputs: dict[str, Array] = {}
    for index in model.inputs:
        shape, type_name = model.shape(index), model.type_name(index)
        if type_name == "FLOAT32":
            inputs[names[index]] = random.normal(size=shape).astype(np.float32)
            continue
        ends = random.choice([-128, 127], shape)
        levels = (ends if seed == 1 else random.integers(-128, 128, shape)).astype(np.int8)
        inputs[names[index]] = levels.view(np.uint8) if type_name == "UINT8" else levels
    return inputs
