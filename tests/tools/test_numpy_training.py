from __future__ import annotations

import numpy as np
import pytest

from tools.numpy_training import (
    AveragePool,
    Convolution,
    Dense,
    Residual,
    Schedule,
    flat_layers,
    forward,
    same_padding,
    softmax,
    train,
)

STEP = 1e-6


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


LAYERS = {
    "convolution": lambda: Convolution(random(), (3, 3, 2, 3)),
    "strided": lambda: Convolution(random(), (3, 3, 2, 3), stride=2),
    "depthwise, clipped": lambda: Convolution(random(), (3, 3, 2), ceiling=1.0),
    "pointwise, linear": lambda: Convolution(random(), (1, 1, 2, 4), linear=True),
    "residual": lambda: Residual(
        Convolution(random(), (3, 3, 2)), Convolution(random(), (1, 1, 2, 2), linear=True)
    ),
    "pool": AveragePool,
    "dense": lambda: Dense(random(), 4 * 4 * 2, 5),
}


def in_float64(layer) -> None:
    for inner in flat_layers([layer]):
        inner.parameters = {k: v.astype(np.float64) for k, v in inner.parameters.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_every_gradient_is_the_slope_of_the_loss(name):
    layer = LAYERS[name]()
    in_float64(layer)
    x = random(1).normal(size=(3, 4, 4, 2))
    direction = random(2).normal(size=layer.forward(x, training=True).shape)
    to_input = layer.backward(direction)

    def slope(array, index):
        values = []
        for sign in (1, -1):
            array[index] += sign * STEP
            values.append(float((layer.forward(x, training=True) * direction).sum()))
            array[index] -= sign * STEP
        return (values[0] - values[1]) / (2 * STEP)

    checked = [(x, to_input)]
    for inner in flat_layers([layer]):
        checked += [(inner.parameters[k], inner.gradients[k].copy()) for k in inner.parameters]
    for array, gradient in checked:
        for flat in random(3).choice(array.size, min(array.size, 12), replace=False):
            index = np.unravel_index(flat, array.shape)
            assert gradient[index] == pytest.approx(slope(array, index), rel=1e-4, abs=1e-5)


def test_a_folded_convolution_answers_as_the_layer_after_training():
    layer = Convolution(random(), (1, 1, 2, 3), linear=True)
    x = random(1).normal(3, 2, size=(8, 4, 4, 2)).astype(np.float32)
    for _ in range(5):
        layer.forward(x, training=True)
    kernel, bias = layer.folded()
    assert np.allclose(layer.forward(x, training=False), x @ kernel[0, 0] + bias, atol=1e-5)


@pytest.mark.parametrize(
    ("extent", "kernel", "stride", "pads"),
    [(16, 3, 1, (1, 1)), (16, 3, 2, (0, 1)), (15, 3, 2, (1, 1)), (8, 1, 1, (0, 0))],
)
def test_the_odd_pixel_of_padding_goes_after(extent, kernel, stride, pads):
    assert same_padding(extent, kernel, stride) == pads


def test_softmax_of_huge_scores_is_finite():
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_training_learns_and_is_the_same_every_time():
    y = random(1).integers(0, 2, 64)
    x = (random(2).normal(size=(64, 4, 4, 1)) + y[:, None, None, None]).astype(np.float32)

    def trained():
        network = [Convolution(random(4), (3, 3, 1, 4)), Dense(random(5), 64, 2)]
        train(network, x, y, Schedule(epochs=12, batch=16), random(6))
        return forward(network, x)

    first = trained()
    assert np.mean(first.argmax(1) == y) > 0.95
    assert np.array_equal(first, trained())
