"""A program that means nothing is found, whatever pass has made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeq.engines.cuda.program import nodes
from edgeq.engines.cuda.program.check import check_program
from edgeq.engines.cuda.program.nodes import Program
from edgeq.errors import EngineError
from tests.engines.cuda.lowered import whole_program
from tests.engines.cuda.odd_models import ODD, Odd
from tests.engines.cuda.programs import Builder

Change = Callable[[Any], dict[str, Any]]


def convolved() -> Program:
    """conv 3x3 -> table -> mean -> dense."""
    b = Builder()
    x = b.convolution(b.input(1, 6, 6, 4), 8, 3, 1)
    program = b.finish(b.dense(b.mean(b.lookup(x)), 5))
    return dataclasses.replace(program, labels=())


def with_node(program: Program, position: int, **fields: Any) -> Program:
    changed = dataclasses.replace(program.nodes[position], **fields)
    return dataclasses.replace(program, nodes=tuple(
        changed if at == position else node for at, node in enumerate(program.nodes)
    ))  # fmt: skip


def with_value(program: Program, index: int, **fields: Any) -> Program:
    changed = dataclasses.replace(program.values[index], **fields)
    return dataclasses.replace(program, values=tuple(
        changed if at == index else value for at, value in enumerate(program.values)
    ))  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_lowered_op_passes(name: str) -> None:
    check_program(whole_program(ODD[name](Odd(5))))


def test_a_value_is_written_before_it_is_read() -> None:
    program = convolved()
    with pytest.raises(EngineError, match="before it is whole"):
        check_program(dataclasses.replace(program, nodes=program.nodes[::-1]))


def test_a_value_has_one_writer() -> None:
    program = convolved()
    with pytest.raises(EngineError, match="again"):
        check_program(dataclasses.replace(program, nodes=(*program.nodes, program.nodes[-1])))


def test_an_input_is_not_written() -> None:
    program = convolved()
    with pytest.raises(EngineError, match="which is given"):
        check_program(dataclasses.replace(program, inputs=(*program.inputs, program.nodes[-1].y)))


def test_an_output_is_written() -> None:
    program = convolved()
    lacking = dataclasses.replace(program, nodes=program.nodes[:-1])
    with pytest.raises(EngineError, match="never written"):
        check_program(lacking)


def test_each_node_has_a_label_or_none_has() -> None:
    with pytest.raises(EngineError, match="1 labels for 4 nodes"):
        check_program(dataclasses.replace(convolved(), labels=("one",)))


def test_the_message_names_the_node_and_its_label() -> None:
    program = dataclasses.replace(convolved(), labels=("0 CONV_2D", "1 TANH", "2 MEAN", "3 FC"))
    with pytest.raises(EngineError, match=r"node 1 \(Lookup 1 TANH\): a table has 256 entries"):
        check_program(with_node(program, 1, table=np.zeros(255, np.int8)))


def test_a_constant_is_what_its_value_says() -> None:
    b = Builder()
    x, constant = b.input(1, 4), b.constant(np.zeros((1, 4), np.int8))
    program = b.finish(b.sum(x, constant))
    check_program(program)
    with pytest.raises(EngineError, match="its value is int8"):
        check_program(dataclasses.replace(program, constants={constant: np.zeros((1, 5), np.int8)}))


def test_moves_write_all_of_a_value() -> None:
    axis = nodes.Axis(2, extent=2, stride=1)
    values = (nodes.Value("x", (2,), "int8"), nodes.Value("y", (5,), "int8"))
    moves = (nodes.Move(0, 1, (axis,), (1,)), nodes.Move(0, 1, (axis,), (1,), offset=2))
    with pytest.raises(EngineError, match="write 4 of the 5 elements"):
        check_program(Program(values, moves, (0,), (1,)))


@pytest.mark.parametrize(("axis", "offset", "message"), [
    (nodes.Axis(4, extent=4, stride=1), 1, "a box ends at 4"),
    (nodes.Axis(4, extent=5, stride=1), 0, "is read at 4"),
    (nodes.Axis(4, extent=4, stride=1), -1, "a box ends at 2"),
])  # fmt: skip
def test_a_move_stays_inside(axis: nodes.Axis, offset: int, message: str) -> None:
    values = (nodes.Value("x", (4,), "int8"), nodes.Value("y", (4,), "int8"))
    move = nodes.Move(0, 1, (axis,), (1,), offset=offset)
    with pytest.raises(EngineError, match=message):
        check_program(Program(values, (move,), (0,), (1,)))


def _requantized(**fields: Any) -> Change:
    def change(node: nodes.Convolution) -> dict[str, Any]:
        r = dataclasses.replace(node.epilogue.requantization, **fields)
        return {"epilogue": nodes.Epilogue(r)}

    return change


@pytest.mark.parametrize(("change", "message"), [
    (lambda node: {"weights": node.weights[:, :, :, :3]}, "weights are"),
    (lambda node: {"weights": node.weights[:7]}, "y is"),
    (lambda node: {"window": dataclasses.replace(node.window, stride=(2, 2))}, "y is"),
    (lambda node: {"window": dataclasses.replace(node.window, before=(-1, 0))}, "negative"),
    (_requantized(bias=np.zeros(7, np.int32)), "bias is int32"),
    (_requantized(bias=np.zeros(8, np.int64)), "bias is int64"),
    (_requantized(scale=np.zeros(8, np.float32)), "not positive"),
    (_requantized(low=5, high=4), "the bounds are"),
    (_requantized(zero_point=200), "the zero point is"),
    (lambda node: {"epilogue": dataclasses.replace(node.epilogue, other=0)}, "an addition needs"),
])  # fmt: skip
def test_a_convolution_fits_its_values(change: Change, message: str) -> None:
    program = convolved()
    with pytest.raises(EngineError, match=message):
        check_program(with_node(program, 0, **change(program.nodes[0])))


@pytest.mark.parametrize(("position", "fields", "message"), [
    (2, {"count": 35}, "do not fit"),
    (3, {"weights": np.zeros((5, 9), np.int8)}, "do not fit"),
])  # fmt: skip
def test_a_reduction_fits_its_values(position: int, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_program(with_node(convolved(), position, **fields))


@pytest.mark.parametrize(("name", "fields", "message"), [
    ("RESIZE_BILINEAR", {"rows": np.full((3, 2), 1000, np.int32)}, "y is"),
    ("ADD", {"addition": nodes.Addition(1, 1, 0, 31, 0, -128, 127)}, "the shift is 31"),
    ("MUL", {"low": -129}, "the bounds are"),
    ("SOFTMAX", {"depth": 7}, "the depth is 7"),
    ("PRELU", {"tables": np.zeros((0, 256), np.int8)}, "lacks its table"),
])  # fmt: skip
def test_a_lowered_op_that_was_changed_is_found(
    name: str, fields: dict[str, Any], message: str
) -> None:
    program = whole_program(ODD[name](Odd(3)))
    with pytest.raises(EngineError, match=message):
        check_program(with_node(program, 0, **fields))


def test_types_are_what_the_node_takes() -> None:
    program = convolved()
    with pytest.raises(EngineError, match="x is float32, not int8"):
        check_program(with_value(program, program.inputs[0], datatype="float32"))
