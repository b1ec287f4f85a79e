from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.quantize.equalize import MOST, equalize
from edgeq.quantize.stretches import find_stretches
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny
from tests.quantize.minmax import minmax_table

RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6
RELU_N1_TO_1 = schema.ActivationFunctionType.RELU_N1_TO_1
SAME = schema.Padding.SAME
CHANNELS = 8
UNEQUAL = np.geomspace(1.0, 50.0, CHANNELS).astype(np.float32)
ONES = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


class Net(tiny.GraphBuilder):
    """Layers of CHANNELS channels over 'x' [1, 6, 6, 3]."""

    def __init__(self) -> None:
        super().__init__({"x": (1, 6, 6, 3)})
        self.draw = np.random.default_rng(7)
        self.size = (1, 6, 6, CHANNELS)

    def conv(self, name: str, source: int, fused: int = RELU, gains=UNEQUAL) -> int:
        depth = self.model.shape(source)[-1]
        values = self.draw.normal(size=(CHANNELS, 1, 1, depth)) * np.reshape(gains, (-1, 1, 1, 1))
        weights = self.constant(f"{name}/w", values.astype(np.float32))
        bias = self.constant(f"{name}/b", (0.1 * np.ones(CHANNELS) * gains).astype(np.float32))
        return self.op("CONV_2D", [source, weights, bias], (name, self.size),
                       options="Conv2DOptions", fusedActivationFunction=fused, **ONES)  # fmt: skip

    def depthwise(self, name: str, source: int, fused: int = RELU, gains=1.0 / UNEQUAL) -> int:
        """By default it evens out what `conv` made unequal, as trained nets do."""
        values = (self.draw.normal(size=(1, 3, 3, CHANNELS)) * gains / 3).astype(np.float32)
        weights = self.constant(f"{name}/w", values)
        bias = self.constant(f"{name}/b", np.zeros(CHANNELS, np.float32))
        return self.op("DEPTHWISE_CONV_2D", [source, weights, bias], (name, self.size),
                       options="DepthwiseConv2DOptions", depthMultiplier=1,
                       fusedActivationFunction=fused, **ONES)  # fmt: skip

    def pad(self, name: str, source: int) -> int:
        amounts = self.constant(f"{name}/p", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32),
                                "INT32")  # fmt: skip
        return self.op("PAD", [source, amounts], (name, (1, 8, 8, CHANNELS)))


def samples(count: int = 16, seed: int = 0) -> list[dict[str, tiny.Array]]:
    draw = np.random.default_rng(seed)
    return [{"x": draw.normal(size=(1, 6, 6, 3)).astype(np.float32)} for _ in range(count)]


def unequal(fused: int = RELU, gains=UNEQUAL) -> Model:
    """A convolution with unequal channels, read by a depthwise one, read by a third."""
    net = Net()
    evened = 1.0 / np.where(gains > 0, gains, 1.0)
    x = net.depthwise("second", net.conv("first", 0, fused, gains), fused, evened)
    return net.finish(net.conv("third", x, 0, gains=np.ones(CHANNELS)))


def outputs(model: Model, given) -> list[tiny.Array]:
    runner = Runner(model.to_bytes())
    return [next(iter(runner.run(inputs).values())) for inputs in given]


def noise(model: Model, judged: Model, given) -> float:
    pairs = zip(outputs(model, given), outputs(judged, given), strict=True)
    return sum(float(np.square(a - b).sum()) for a, b in pairs)


# ---- what is done


def test_the_function_stays():
    model = unequal()
    equalized = equalize(model, samples())
    assert equalized is not None
    for before, after in zip(
        outputs(model, samples(seed=1)), outputs(equalized.model, samples(seed=1)), strict=True
    ):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_channels_get_alike_and_int8_closer_to_float():
    model, given = unequal(), samples(32)
    equalized = equalize(model, given)
    assert equalized is not None
    assert "first" in equalized.tensors
    fresh = samples(32, seed=2)
    plain = quantize(model, minmax_table(model, given)).model
    better = quantize(equalized.model, minmax_table(equalized.model, given)).model
    assert noise(model, better, fresh) < noise(model, plain, fresh) / 2


def test_the_given_model_is_not_changed():
    model = unequal()
    before = model.to_bytes()
    equalize(model, samples())
    assert model.to_bytes() == before


def test_names_and_positions_stay():
    model = unequal()
    equalized = equalize(model, samples())
    assert equalized is not None
    assert equalized.model.names() == model.names()
    assert [equalized.model.op_name(o) for o in equalized.model.operators] == [
        model.op_name(o) for o in model.operators
    ]


def test_no_channel_grows_without_bound():
    gains = np.array([1e-3, *np.ones(CHANNELS - 1)], np.float32)
    model = unequal(gains=gains)
    equalized = equalize(model, samples())
    assert equalized is not None
    before = model.constant(model.names().index("first/w"))
    after = equalized.model.constant(model.names().index("first/w"))
    assert np.abs(after / before).max() <= MOST * (1 + 1e-5)


def test_nothing_that_was_seen_is_clipped_behind_relu6():
    model = unequal(RELU6, np.geomspace(0.05, 3.0, CHANNELS).astype(np.float32))
    equalized = equalize(model, samples())
    assert equalized is not None
    assert noise(model, equalized.model, samples()) < 1e-6


def test_a_dead_channel_stays_dead():
    gains = np.array([0.0, *UNEQUAL[1:]], np.float32)
    equalized = equalize(unequal(gains=gains), samples())
    assert equalized is not None
    weights = equalized.model.constant(equalized.model.names().index("first/w"))
    assert not weights[0].any()
    assert np.isfinite(weights).all()


def test_channels_of_the_same_size_are_left_alone():
    net = Net()
    x = net.conv("first", 0, gains=np.zeros(CHANNELS))
    net.model.tensors[2].buffer = net.model.add_buffer(np.ones(CHANNELS, np.float32))  # first/b
    model = net.finish(net.depthwise("second", x))
    assert stretch_names(model) == ["first"]
    assert equalize(model, samples()) is None


def test_a_channel_that_is_rarely_active_is_not_trusted():
    """What one half of the samples shows of it says nothing about the other half."""
    net = Net()
    gains = np.ones(CHANNELS, np.float32)
    model = net.finish(net.depthwise("second", net.conv("first", 0, RELU, gains)))
    given = samples(16)
    for number, inputs in enumerate(given):
        inputs["x"] *= 10.0 if number % 8 == 0 else 0.1
    equalized = equalize(model, given)
    assert equalized is None or noise(model, equalized.model, given) < 1e-3


def test_one_sample_equalizes_nothing():
    assert equalize(unequal(), samples(1)) is None


def test_samples_of_zeros_equalize_nothing():
    net = Net()
    model = net.finish(net.depthwise("second", net.conv("first", 0, RELU, np.zeros(CHANNELS))))
    assert equalize(model, samples()) is None


# ---- where it may be done


def stretch_names(model: Model) -> list[str]:
    names = model.names()
    return [names[stretch.tensor] for stretch in find_stretches(model)]


def test_padding_carries_channels_on():
    net = Net()
    x = net.pad("padded", net.conv("first", 0))
    assert stretch_names(net.finish(net.depthwise("second", x))) == ["first"]


def test_two_readers_share_the_factors():
    net = Net()
    x = net.conv("first", 0)
    model = net.finish(net.depthwise("left", x), net.depthwise("right", x))
    (stretch,) = find_stretches(model)
    assert len(stretch.readers) == 2
    equalized = equalize(model, samples())
    assert equalized is not None
    assert noise(model, equalized.model, samples(seed=3)) < 1e-3


def added(net: Net) -> Model:
    x = net.conv("first", 0)
    y = net.op("ADD", [x, x], ("sum", net.size), options="AddOptions")
    return net.finish(net.depthwise("second", y))


def seen_from_outside(net: Net) -> Model:
    x = net.conv("first", 0)
    return net.finish(x, net.depthwise("second", x))


def bounded_below(net: Net) -> Model:
    return net.finish(net.depthwise("second", net.conv("first", 0, RELU_N1_TO_1)))


def shared_weights(net: Net) -> Model:
    x = net.conv("first", 0, gains=np.ones(CHANNELS))
    y = net.depthwise("second", x)
    net.model.operators[1].inputs = np.asarray([x, *net.model.operators[1].inputs[1:]], np.int32)
    z = net.depthwise("third", y)
    net.model.operators[2].inputs = np.asarray([y, *net.model.operators[1].inputs[1:]], np.int32)
    return net.finish(z)


@pytest.mark.parametrize("make", [added, seen_from_outside, bounded_below, shared_weights])
def test_whatever_else_sees_the_channels_forbids_it(make):
    assert stretch_names(make(Net())) == []


def test_flattened_maps_are_no_channels():
    net = Net()
    x = net.conv("first", 0)
    shape = net.constant("shape", np.array([1, 36 * CHANNELS], np.int32), "INT32")
    flat = net.op("RESHAPE", [x, shape], ("flat", (1, 36 * CHANNELS)), options="ReshapeOptions",
                  newShape=np.array([1, 36 * CHANNELS], np.int32))  # fmt: skip
    weights = net.constant("fc/w", np.ones((2, 36 * CHANNELS), np.float32))
    y = net.op("FULLY_CONNECTED", [flat, weights, -1], ("y", (1, 2)),
               options="FullyConnectedOptions")  # fmt: skip
    assert stretch_names(net.finish(y)) == []
