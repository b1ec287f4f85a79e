"""A float model -> its stretches: a layer, what carries its channels on, the layers that read them.

Within a stretch a positive factor per channel can move from the layer's weights to its readers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.quantize.plan import optional_input
from edgeq.quantize.scheme import RULES, Weights, fused_bounds
from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
CARRIERS = ("PAD", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE")  # linear by channel
LEAST_BOUND = 0.0  # a fused activation may clip at 0 from below: that is the same at any scale


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels: its weights, and whether it keeps channels apart."""

    op_name: str
    weights: int  # tensor

    def by_channel(self, model: Model, channels: int) -> Array:
        """Return the weights as [out, taps, channels]; a depthwise one has its own out only."""
        values = model.constant(self.weights)
        assert values is not None  # find_stretches takes no other weights
        if self.op_name == "DEPTHWISE_CONV_2D":
            values = values.reshape(-1, channels, values.shape[3] // channels)
            return np.transpose(values, (2, 0, 1))
        return values.reshape(values.shape[0], -1, channels)

    def spread(self, model: Model, factors: Array) -> Array:
        """Return the factors so that they broadcast against the weights."""
        if self.op_name != "DEPTHWISE_CONV_2D":
            return factors  # the last dimension is the channel
        return np.repeat(factors, model.shape(self.weights)[3] // len(factors))

    def activation_noise(self, model: Model, noise: Array) -> float:
        """Return the energy at all outputs of so much noise in each input channel."""
        weights = self.by_channel(model, len(noise))
        return float((np.square(weights.astype(np.float64)).sum(axis=(0, 1)) * noise).sum())

    def weight_noise(self, model: Model, factors: Array, energy: Array, levels: int) -> float:
        """Return the energy at all outputs of rounding the weights behind these factors."""
        weights = np.abs(self.by_channel(model, len(factors)))
        taps = weights.shape[1]
        if self.op_name == "DEPTHWISE_CONV_2D":  # a scale per channel: the factor cancels
            steps = weights.max(axis=1) / levels  # [out, channels]
            return float((np.square(steps) / 12 * taps * energy).sum())
        steps = (weights / factors).max(axis=(1, 2)) / levels  # [out]
        scaled = np.square(factors) * energy
        return float((np.square(steps) / 12).sum() * taps * scaled.sum())


@dataclass(frozen=True)
class Stretch:
    """`writer`: the layer's position; `tensor`: what it writes."""

    writer: int
    tensor: int
    readers: tuple[Reader, ...]


def find_stretches(model: Model) -> list[Stretch]:
    """Return the stretches in execution order."""
    own = _weights_of_one_op(model)
    consumers, outputs = model.consumers(), set(model.outputs)
    found = []
    for position, operator in enumerate(model.operators):
        if not _is_scalable(model, operator, own):
            continue
        tensor = indices(operator.outputs)[0]
        readers = _readers(model, tensor, consumers, outputs, own)
        if readers:
            found.append(Stretch(position, tensor, tuple(readers)))
    return found


def _weights(model: Model, operator: Any) -> Weights | None:
    name = model.op_name(operator)
    return RULES[name].weights if name in LAYERS else None


def _weights_of_one_op(model: Model) -> set[int]:
    """Return the float32 constants that one op reads, once."""
    readers = model.consumers()
    return {
        tensor
        for tensor, positions in readers.items()
        if len(positions) == 1
        and model.is_constant(tensor)
        and model.type_name(tensor) == "FLOAT32"
        and tensor not in model.outputs
    }


def _is_scalable(model: Model, operator: Any, own: set[int]) -> bool:
    """True where scaling the op's weights and bias by channel scales its output alike."""
    weights, bounds = _weights(model, operator), fused_bounds(operator)
    if weights is None or bounds is None or bounds[0] not in (LEAST_BOUND, -np.inf):
        return False
    bias = optional_input(operator, weights.bias)
    return indices(operator.inputs)[weights.position] in own and (bias < 0 or bias in own)


def _readers(
    model: Model, tensor: int, consumers: dict[int, list[int]], outputs: set[int], own: set[int]
) -> list[Reader]:
    """Return every layer that reads the tensor's channels; none where anything else does."""
    channels = model.shape(tensor)[-1] if model.shape(tensor) else 0
    frontier, readers = [tensor], []
    while frontier:
        current = frontier.pop()
        if current in outputs or not consumers.get(current):
            return []
        for position in consumers[current]:
            operator = model.operators[position]
            reader = _reader(model, operator, current, channels, own)
            if reader is not None:
                readers.append(reader)
            elif _carries(model, operator, current, channels):
                frontier.append(indices(operator.outputs)[0])
            else:
                return []
    return readers


def _reader(
    model: Model, operator: Any, tensor: int, channels: int, own: set[int]
) -> Reader | None:
    weights = _weights(model, operator)
    inputs = indices(operator.inputs)
    if weights is None or inputs[0] != tensor or inputs[weights.position] not in own:
        return None
    shape = model.shape(inputs[weights.position])
    reader = Reader(model.op_name(operator), inputs[weights.position])
    if reader.op_name == "DEPTHWISE_CONV_2D":
        return reader if shape[3] % channels == 0 else None
    return reader if shape[-1] == channels else None  # no groups, no flattened maps


def _carries(model: Model, operator: Any, tensor: int, channels: int) -> bool:
    """True where the op hands each channel on as it is, up to a linear map of its own."""
    name, outputs = model.op_name(operator), indices(operator.outputs)
    if name not in CARRIERS or indices(operator.inputs)[0] != tensor or len(outputs) != 1:
        return False
    target = model.shape(outputs[0])
    fused = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
    if not target or target[-1] != channels or int(fused or 0):
        return False
    return name != "RESHAPE" or _is_flat(model.shape(tensor))


def _is_flat(shape: tuple[int, ...]) -> bool:
    """True for [1, 1, 1, C]: whatever shape it takes, its channels stay apart."""
    return int(np.prod(shape[:-1])) == 1
