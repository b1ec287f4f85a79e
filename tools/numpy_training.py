"""Images + labels -> a trained small CNN, in numpy alone: layers with their own gradients.

Slow and plain on purpose: it makes the test models without a training framework. Layouts are
TFLite's: activations [N, H, W, C], padding SAME.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-3
RELU6 = 6.0


class Layer(Protocol):
    """Keeps what its gradient needs from `forward` to `backward`."""

    parameters: dict[str, Array]
    gradients: dict[str, Array]

    def forward(self, x: Array, *, training: bool) -> Array: ...
    def backward(self, gradient: Array) -> Array: ...


def same_padding(extent: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TFLite's SAME padding: the odd one goes after."""
    total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
    return total // 2, total - total // 2


class Convolution:
    """Convolution without bias, followed by batch norm and an upper-clipped ReLU.

    The kernel is [k, k, in, out], or [k, k, channels] for a depthwise one.
    """

    def __init__(
        self,
        random: np.random.Generator,
        shape: tuple[int, ...],
        *,
        stride: int = 1,
        ceiling: float = np.inf,
        linear: bool = False,
    ) -> None:
        self.stride, self.ceiling, self.linear = stride, ceiling, linear
        self.is_depthwise = len(shape) == 3
        fan_in = shape[0] * shape[1] * (1 if self.is_depthwise else shape[2])
        kernel = random.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        channels = shape[-1]
        self.parameters = {
            "kernel": kernel,
            "gain": np.ones(channels, np.float32),
            "shift": np.zeros(channels, np.float32),
        }
        self.gradients: dict[str, Array] = {}
        self.mean, self.variance = np.zeros(channels, np.float32), np.ones(channels, np.float32)

    def forward(self, x: Array, *, training: bool) -> Array:
        size = self.parameters["kernel"].shape[0]
        pads = [same_padding(extent, size, self.stride) for extent in x.shape[1:3]]
        self._pads, self._padded = pads, np.pad(x, [(0, 0), *pads, (0, 0)])
        y = self._normalized(self._convolve(), training)
        z = y * self.parameters["gain"] + self.parameters["shift"]
        if self.linear:
            return z
        self._passes = (z > 0) & (z < self.ceiling)
        return np.clip(z, 0, self.ceiling)

    def _window(self, row: int, column: int, source: Array) -> Array:
        """The pixels that kernel entry [row, column] meets: a view [N, H', W', C]."""
        size = self.parameters["kernel"].shape[0]
        stop = [extent - size + 1 for extent in source.shape[1:3]]
        step = self.stride
        return source[:, row : row + stop[0] : step, column : column + stop[1] : step]

    def _convolve(self) -> Array:
        kernel, y = self.parameters["kernel"], None
        for row, column in np.ndindex(*kernel.shape[:2]):
            window, weights = self._window(row, column, self._padded), kernel[row, column]
            term = window * weights if self.is_depthwise else window @ weights
            y = term if y is None else y + term
        assert y is not None
        return y

    def _normalized(self, y: Array, training: bool) -> Array:
        mean, variance = self.mean, self.variance
        if training:
            mean, variance = y.mean((0, 1, 2)), y.var((0, 1, 2))
            keep = BATCH_NORM_MOMENTUM
            self.mean = keep * self.mean + (1 - keep) * mean
            self.variance = keep * self.variance + (1 - keep) * variance
        self._deviation = np.sqrt(variance + BATCH_NORM_EPSILON)
        self._standard = (y - mean) / self._deviation
        return self._standard

    def backward(self, gradient: Array) -> Array:
        if not self.linear:
            gradient = gradient * self._passes
        self.gradients["shift"] = gradient.sum((0, 1, 2))
        self.gradients["gain"] = (gradient * self._standard).sum((0, 1, 2))
        gradient = gradient * self.parameters["gain"]
        centred = gradient - gradient.mean((0, 1, 2))
        centred -= self._standard * (gradient * self._standard).mean((0, 1, 2))
        return self._convolve_back(centred / self._deviation)

    def _convolve_back(self, gradient: Array) -> Array:
        kernel = self.parameters["kernel"]
        to_kernel, to_input = np.zeros_like(kernel), np.zeros_like(self._padded)
        for row, column in np.ndindex(*kernel.shape[:2]):
            window, weights = self._window(row, column, self._padded), kernel[row, column]
            into = self._window(row, column, to_input)
            if self.is_depthwise:
                to_kernel[row, column] = (window * gradient).sum((0, 1, 2))
                into += gradient * weights
            else:
                to_kernel[row, column] = np.tensordot(window, gradient, ((0, 1, 2), (0, 1, 2)))
                into += gradient @ weights.T
        self.gradients["kernel"] = to_kernel
        (top, bottom), (left, right) = self._pads
        height, width = to_input.shape[1:3]
        return to_input[:, top : height - bottom, left : width - right]

    def folded(self) -> tuple[Array, Array]:
        """Return kernel and bias with the batch norm inside."""
        gain = self.parameters["gain"] / np.sqrt(self.variance + BATCH_NORM_EPSILON)
        return self.parameters["kernel"] * gain, self.parameters["shift"] - self.mean * gain


class Residual:
    """x -> x + the layers' answer to x."""

    def __init__(self, *layers: Convolution) -> None:
        self.layers = layers
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool) -> Array:
        y = x
        for layer in self.layers:
            y = layer.forward(y, training=training)
        return x + y

    def backward(self, gradient: Array) -> Array:
        inner = gradient
        for layer in reversed(self.layers):
            inner = layer.backward(inner)
        return gradient + inner


class AveragePool:
    """Mean over 2 x 2 pixels."""

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def backward(self, gradient: Array) -> Array:
        return gradient.repeat(2, 1).repeat(2, 2) / 4


class Dense:
    """Fully connected, from whatever shape: the scores before softmax."""

    def __init__(self, random: np.random.Generator, inputs: int, outputs: int) -> None:
        kernel = random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        self.parameters = {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}
        self.gradients: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool) -> Array:
        self._shape, self._flat = x.shape, x.reshape(len(x), -1)
        return self._flat @ self.parameters["kernel"] + self.parameters["bias"]

    def backward(self, gradient: Array) -> Array:
        self.gradients["kernel"] = self._flat.T @ gradient
        self.gradients["bias"] = gradient.sum(0)
        return (gradient @ self.parameters["kernel"].T).reshape(self._shape)


def softmax(scores: Array) -> Array:
    """Return probabilities along the last axis."""
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; the rate falls along a cosine."""

    epochs: int = 30
    batch: int = 64
    rate: float = 4e-3
    decay: float = 1e-4  # of kernels, as AdamW


class Adam:
    """AdamW over the layers' parameters, in place."""

    def __init__(self, layers: list[Layer], decay: float) -> None:
        self.layers, self.decay, self.step = layers, decay, 0
        self.moments = [
            {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in layer.parameters.items()}
            for layer in layers
        ]

    def update(self, rate: float) -> None:
        self.step += 1
        for layer, moments in zip(self.layers, self.moments, strict=True):
            for name, parameter in layer.parameters.items():
                gradient, (first, second) = layer.gradients[name], moments[name]
                first += 0.1 * (gradient - first)
                second += 0.001 * (gradient**2 - second)
                mean = first / (1 - 0.9**self.step)
                spread = np.sqrt(second / (1 - 0.999**self.step)) + 1e-8
                decay = self.decay * parameter if name == "kernel" else 0
                parameter -= rate * (mean / spread + decay)


def flat_layers(network: list[Layer]) -> list[Layer]:
    """Return the layers that hold parameters, residual ones opened."""
    return [
        inner
        for layer in network
        for inner in (layer.layers if isinstance(layer, Residual) else (layer,))
        if inner.parameters
    ]


def forward(network: list[Layer], x: Array, *, training: bool = False) -> Array:
    """Return the scores before softmax."""
    for layer in network:
        x = layer.forward(x, training=training)
    return x


def train(
    network: list[Layer], x: Array, y: Array, schedule: Schedule, random: np.random.Generator
) -> None:
    """Minimize the cross entropy of `y` on `x`, shifted by up to a pixel each way, in place."""
    optimizer = Adam(flat_layers(network), schedule.decay)
    batches = len(x) // schedule.batch
    for step in range(schedule.epochs * batches):
        if step % batches == 0:
            order = random.permutation(len(x))
        chosen = order[step % batches :: batches]
        image = np.roll(x[chosen], random.integers(-1, 2, 2), (1, 2))
        gradient = softmax(forward(network, image, training=True))
        gradient[np.arange(len(chosen)), y[chosen]] -= 1
        gradient /= len(chosen)
        for layer in reversed(network):
            gradient = layer.backward(gradient)
        progress = step / (schedule.epochs * batches)
        optimizer.update(schedule.rate * (1 + np.cos(np.pi * progress)) / 2)
