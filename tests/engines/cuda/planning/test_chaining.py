"""Chains are joined where nothing else needs what lies between, and keep every bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgeq.engines.cuda.planning.borders import prepare_borders
from edgeq.engines.cuda.planning.chaining import chain
from edgeq.engines.cuda.planning.layout import lay_out
from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.nodes import Chain, Dequantize, Pooling, Program, Softmax, Window
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.memory import Memory
from tests.engines.cuda.programs import Builder


def chained(builder: Builder, *outputs: int) -> list[list[str]]:
    """Chain a program, hold its outputs to the unchained one's; return the types of its nodes."""
    program, given = builder.finish(*outputs), builder.given()
    result = chain(program)
    check_program(result)
    layout = lay_out(prepare_borders(result), Target(87))
    actual = Memory(layout, given).run()
    expected = evaluate(program, given)
    for named, placed in zip(outputs, layout.program.outputs, strict=True):
        np.testing.assert_array_equal(actual[placed], expected[named])
    return types(result)


def types(program: Program) -> list[list[str]]:
    parts = [node.parts if isinstance(node, Chain) else (node,) for node in program.nodes]
    return [[type(part).__name__ for part in own] for own in parts]


def softmax(builder: Builder, x: int) -> int:
    y = builder.value(*builder.shape(x))
    table = np.exp(-np.arange(256) * np.float32(0.1)).astype(np.float32)
    builder.nodes.append(Softmax(x, y, builder.shape(x)[-1], table, 1 / 256, -128))
    return y


def dequantize(builder: Builder, x: int) -> int:
    y = builder.value(*builder.shape(x), datatype="float32")
    builder.nodes.append(Dequantize(x, y, 1 / 256, -128))
    return y


def test_a_depthwise_and_the_pointwise_convolution_after_it_are_a_chain():
    builder = Builder()
    x = builder.convolution(builder.input(1, 5, 5, 4), 8)
    y = builder.convolution(builder.depthwise(builder.convolution(builder.depthwise(x), 6)), 4)
    pair = ["Depthwise", "Convolution"]
    assert chained(builder, y) == [["Convolution"], pair, pair]


@pytest.mark.parametrize("size", [1, 3])
def test_what_others_read_is_kept(size: int):
    builder = Builder()
    middle = builder.depthwise(builder.input(1, 5, 5, 4))
    y = builder.convolution(middle, 4, size, size // 2)
    total = builder.sum(middle, y) if size == 1 else y
    assert all(len(own) == 1 for own in chained(builder, total))


def test_an_output_is_kept():
    builder = Builder()
    middle = builder.depthwise(builder.input(1, 5, 5, 4))
    assert all(len(own) == 1 for own in chained(builder, middle, builder.convolution(middle, 4)))


@pytest.mark.parametrize("flattened", [False, True])
def test_the_end_of_a_classifier_is_a_chain(flattened: bool):
    builder = Builder()
    x = builder.mean(builder.convolution(builder.input(1, 5, 5, 4), 12))
    x = builder.reshape(x, 1, 1, 1, 12) if flattened else x
    y = dequantize(builder, softmax(builder, builder.dense(x, 10)))
    ending = ["Mean", "Dense", "Softmax", "Dequantize"]
    assert chained(builder, y) == [["Convolution"], ending]


def test_pooling_of_a_whole_image_begins_one_too():
    builder = Builder()
    x = builder.convolution(builder.input(1, 5, 5, 4), 12)
    pooled = builder.value(1, 1, 1, 12)
    window = Window((5, 5), (5, 5))
    builder.nodes.append(Pooling("average", x, pooled, window, -128, 127))
    y = builder.dense(builder.reshape(pooled, 1, 12), 10)
    assert chained(builder, y) == [["Convolution"], ["Pooling", "Dense"]]


def test_convolutions_of_one_pixel_are_fully_connected_layers():
    builder = Builder()
    x = builder.mean(builder.convolution(builder.input(1, 5, 5, 4), 12))
    x = builder.convolution(builder.reshape(x, 1, 1, 1, 12), 10)
    y = softmax(builder, builder.reshape(x, 1, 10))
    assert chained(builder, y) == [["Convolution"], ["Mean", "Dense", "Softmax"]]


def test_a_reshape_that_cuts_rows_otherwise_stays():
    builder = Builder()
    x = builder.dense(builder.input(1, 5, 5, 4), 10)
    assert chained(builder, softmax(builder, builder.reshape(x, 2, 5)))[1:] == [
        ["Reshape"],
        ["Softmax"],
    ]


def test_branches_are_chained_apart():
    builder = Builder()
    x = builder.convolution(builder.input(1, 5, 5, 4), 8)
    middles = [builder.depthwise(x), builder.depthwise(x)]
    ends = [builder.convolution(middle, 8) for middle in middles]
    pair = ["Depthwise", "Convolution"]
    assert chained(builder, builder.sum(*ends)) == [["Convolution"], pair, pair, ["Sum"]]


def test_labels_name_all_parts():
    builder = Builder()
    y = builder.convolution(builder.depthwise(builder.input(1, 5, 5, 4)), 8)
    assert chain(builder.finish(y)).labels == ("Depthwise 0 + Convolution 1",)


def test_parts_that_do_not_follow_each_other_are_refused():
    builder = Builder()
    x = builder.input(1, 5, 5, 4)
    parts: Sequence[int] = [builder.depthwise(x), builder.depthwise(x)]
    program = builder.finish(parts[1])
    broken = Program(program.values, (Chain(program.nodes),), program.inputs, (parts[1],))
    with pytest.raises(EngineError, match="none that reads it"):
        check_program(broken)
