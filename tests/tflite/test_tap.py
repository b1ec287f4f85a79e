"""A tapped model computes what it computed, and shows every activation on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from edgeq.tflite.tap import tap, tappable
from tests import tiny
from tests.quantize import awkward


def test_every_activation_is_an_output_in_execution_order(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    tapped, tensors = tap(model)
    names = [model.names()[index] for index in tensors]
    assert names == ["conv", "relu", "dw", "pool", "flat", "logits", "scores"]
    assert [spec.name for spec in Runner(tapped.to_bytes()).outputs] == names


def test_graph_inputs_come_first_and_are_not_outputs(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    assert tappable(model)[0] == model.inputs[0]
    assert model.inputs[0] not in tap(model)[1]


@pytest.mark.parametrize("delegate", [True, False])
def test_activations_are_those_of_the_model_itself(tiny_model_bytes: bytes, delegate: bool) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    values = Runner(tap(model)[0].to_bytes(), delegate=delegate).run(tiny.tiny_inputs())
    plain = Runner(tiny_model_bytes, delegate=delegate).run(tiny.tiny_inputs())
    np.testing.assert_array_equal(values["scores"], plain["scores"])
    np.testing.assert_array_equal(values["relu"], values["conv"].clip(0))
    np.testing.assert_allclose(
        values["pool"], values["dw"].reshape(1, 2, 4, 2, 4, 6).mean((2, 4)), rtol=1e-5, atol=1e-6
    )


def test_the_model_itself_is_not_changed(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    tap(model)
    assert model.to_bytes() == tiny_model_bytes


def test_chosen_tensors_alone_are_tapped(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    wanted = model.names().index("dw")
    tapped, tensors = tap(model, [wanted, *model.inputs])
    assert tensors == [wanted]
    assert list(Runner(tapped.to_bytes()).run(tiny.tiny_inputs())) == ["dw"]


def test_integer_tensors_are_not_tapped() -> None:
    g = tiny.GraphBuilder({"x": (1, 4)})
    shape = g.op("SHAPE", g.inputs, ("shape", (2,)), type_name="INT32", options="ShapeOptions",
                 outType=2)  # fmt: skip
    model = g.finish(g.op("RELU", g.inputs, ("y", (1, 4))), shape)
    assert [model.names()[i] for i in tap(model)[1]] == ["y"]


def test_what_a_constant_makes_infinite_is_not_tapped_up_to_where_it_ends() -> None:
    g = tiny.GraphBuilder({"x": (1, 4)})
    mask = g.constant("mask", np.array([[0, -np.inf, 0, 0]], np.float32))
    masked = g.op("ADD", [0, mask], ("masked", (1, 4)), options="AddOptions")
    twice = g.op("ADD", [masked, masked], ("twice", (1, 4)), options="AddOptions")
    model = g.finish(g.op("SOFTMAX", [twice], ("y", (1, 4)), options="SoftmaxOptions", beta=1.0))
    assert [model.names()[index] for index in tappable(model)] == ["x", "y"]


def test_weights_that_the_file_keeps_in_half_precision_are_not_tapped() -> None:
    model = awkward.MODELS["float16 weights"]()
    assert "DEQUANTIZE" in {model.op_name(operator) for operator in model.operators}
    written = {index for operator in model.operators[:2] for index in operator.outputs}
    assert written.isdisjoint(tappable(model))
    assert len(tappable(model)) == 2  # what goes in, and what the layer writes


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ultraface_slim320", "resnet8_cifar10", "vww96"])
def test_a_tapped_real_model_gives_the_same_outputs(shared: Path, name: str) -> None:
    content = (shared / "data" / "models" / f"{name}_fp32.tflite").read_bytes()
    model = Model.from_bytes(content)
    tapped, tensors = tap(model)
    check_structure(tapped)
    runner = Runner(content)
    spec = runner.inputs[0]
    inputs = {spec.name: np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)}
    values = Runner(tapped.to_bytes()).run(inputs)
    assert len(values) == len(tensors)
    for output, value in runner.run(inputs).items():
        np.testing.assert_allclose(values[output], value, rtol=1e-4, atol=1e-5)
