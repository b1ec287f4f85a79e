"""A tensor that holds another's values is found, and what it adds is known."""

from __future__ import annotations

import numpy as np

from edgeq.calibrate.twins import Twin, find_twins
from edgeq.tflite.model import Model
from edgeq.tflite.tap import tappable
from tests.tiny import GraphBuilder, tiny_model


def twins_of(model: Model) -> dict[int, Twin]:
    return find_twins(model, tappable(model))


def pads(g: GraphBuilder, *axes: tuple[int, int]) -> int:
    return g.constant("pads", np.array(axes, np.int32), "INT32")


def test_a_reshape_is_a_twin_of_its_source() -> None:
    model = tiny_model()
    names = model.names()
    found = {names[i]: names[twin.source] for i, twin in twins_of(model).items()}
    assert found == {"flat": "pool"}


def test_the_source_of_a_chain_is_its_first_tensor() -> None:
    g = GraphBuilder({"x": (1, 4)})
    shape = g.constant("shape", np.array([2, 2], np.int32), "INT32")
    first = g.op("RESHAPE", [0, shape], ("first", (2, 2)), options="ReshapeOptions")
    order = g.constant("order", np.array([1, 0], np.int32), "INT32")
    second = g.op("TRANSPOSE", [first, order], ("second", (2, 2)), options="TransposeOptions")
    assert twins_of(g.finish(second)) == {first: Twin(0), second: Twin(0)}


def test_a_pad_adds_zeros() -> None:
    g = GraphBuilder({"x": (1, 4, 4, 2)})
    around = pads(g, (0, 0), (1, 1), (0, 1), (0, 0))
    padded = g.op("PAD", [0, around], ("y", (1, 6, 5, 2)), options="PadOptions")
    (twin,) = twins_of(g.finish(padded)).values()
    assert twin == Twin(0, (0, 2, 1, 0))
    assert twin.zeros((1, 4, 4, 2)) == 6 * 5 * 2 - 4 * 4 * 2


def test_a_pad_of_a_rearranged_tensor_is_not_a_twin() -> None:
    g = GraphBuilder({"x": (1, 4)})
    shape = g.constant("shape", np.array([2, 2], np.int32), "INT32")
    first = g.op("RESHAPE", [0, shape], ("first", (2, 2)), options="ReshapeOptions")
    padded = g.op("PAD", [first, pads(g, (0, 0), (1, 1))], ("y", (2, 4)), options="PadOptions")
    assert list(twins_of(g.finish(padded))) == [first]


def test_a_pad_by_a_computed_amount_is_not_a_twin() -> None:
    g = GraphBuilder({"x": (1, 4)})
    computed = g.op("NEG", [pads(g, (0, 0), (0, 0))], ("amount", (2, 2)), type_name="INT32")
    padded = g.op("PAD", [0, computed], ("y", (1, 4)), options="PadOptions")
    assert twins_of(g.finish(padded)) == {}


def test_integer_tensors_and_constants_have_no_twins() -> None:
    g = GraphBuilder({"x": (1, 4)})
    shape = g.constant("shape", np.array([2, 2], np.int32), "INT32")
    weights = g.constant("w", np.ones((4,), np.float32))
    g.op("RESHAPE", [weights, shape], ("w2", (2, 2)), options="ReshapeOptions")
    shown = g.op("SHAPE", [0], ("s", (2,)), type_name="INT32", options="ShapeOptions", outType=2)
    model = g.finish(shown)
    assert twins_of(model) == {}
