"""A program for several samples gives what the program for one gives for each."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.program.batch import with_batch
from edgeq.engines.cuda.program.nodes import Move, Program
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.errors import EngineError
from edgeq.tflite.model import Model
from tests.engines.cases import CASES
from tests.engines.cuda.int8_models import Int8Model, random_inputs
from tests.engines.cuda.lowered import whole_program
from tests.engines.cuda.odd_models import ODD, Odd
from tests.engines.op_case import OpCase
from tests.engines.test_ops import int8_model
from tests.tiny import Array

MOVERS = [case for case in CASES if case.op in {
    "CONCATENATION", "PACK", "UNPACK", "SPLIT", "PAD", "MIRROR_PAD", "TRANSPOSE", "STRIDED_SLICE",
    "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "TILE",
    "BROADCAST_TO", "REVERSE_V2", "RESHAPE", "SQUEEZE", "BATCH_MATMUL",
} and case.name != "BATCH_MATMUL"]  # fmt: skip


def assert_stacks(model: Model, samples: list[dict[str, Array]]) -> None:
    program = whole_program(model)
    names = [program.values[index].name for index in program.inputs]
    ones = [evaluate(program, _by_index(program, sample)) for sample in samples]
    stacked = {name: np.concatenate([s[name] for s in samples]) for name in names}
    many = evaluate(with_batch(program, len(samples)), _by_index(program, stacked))
    for output in program.outputs:
        assert (many[output] == np.concatenate([one[output] for one in ones])).all()


def _by_index(program: Program, inputs: dict[str, Array]) -> dict[int, Array]:
    return {index: inputs[program.values[index].name] for index in program.inputs}


@pytest.mark.parametrize("name", ["CONV_2D-grouped", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN",
                                  "SOFTMAX", "RESIZE_BILINEAR", "PRELU"])  # fmt: skip
def test_an_op_runs_in_batches(name: str) -> None:
    model = ODD[name](Odd(3))
    assert_stacks(model, [random_inputs(model, seed) for seed in range(3)])


@pytest.mark.parametrize("case", MOVERS, ids=lambda case: case.name)
def test_values_move_inside_their_own_sample(case: OpCase) -> None:
    assert_stacks(int8_model(case), case.samples(3))


def test_a_move_over_whole_samples_only_gets_longer() -> None:
    pad = next(case for case in CASES if case.name == "PAD")
    nodes = with_batch(whole_program(int8_model(pad)), 5).nodes
    assert [[axis.size for axis in node.axes] for node in nodes if isinstance(node, Move)] == [
        [5, 8, 8, 4]
    ]


def test_a_batch_of_one_is_the_program_itself() -> None:
    program = whole_program(ODD["ABS"](Odd(1)))
    assert with_batch(program, 1) is program


def summed(a: tuple[int, ...], b: tuple[int, ...], *, constant: bool = False) -> Program:
    g = Int8Model()
    x, other = g.input(a), g.levels(b) if constant else g.input(b)
    y = g.activation(np.broadcast_shapes(a, b))
    g.op("ADD", [x, other], y, "Add")
    return whole_program(g.finish(y))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4)])
def test_a_constant_is_added_to_every_sample(shape: tuple[int, ...]) -> None:
    program = summed((1, 3, 4), shape, constant=True)
    assert with_batch(program, 2).values[program.outputs[0]].shape == (2, 3, 4)


@pytest.mark.parametrize("program", [
    summed((3, 4), (3, 4), constant=True), summed((3, 4), (1, 4)), summed((2, 3, 4), (3, 4)),
])  # fmt: skip
def test_what_broadcasts_across_samples_is_refused(program: Program) -> None:
    with pytest.raises(EngineError, match=r"cannot run in batches: .* is broadcast to"):
        with_batch(program, 2)


def test_a_scalar_is_refused() -> None:
    g = Int8Model()
    x, y = g.input(()), g.activation((1,))
    g.op("RESHAPE", [x, g.constant([1])], y, "Reshape")
    with pytest.raises(EngineError, match="is a scalar"):
        with_batch(whole_program(g.finish(y)), 2)


def test_a_softmax_over_the_only_dimension_is_refused() -> None:
    g = Int8Model()
    x, y = g.input((8,)), g.activation((8,))
    g.op("SOFTMAX", [x], y, "Softmax", beta=1.0)
    program = whole_program(g.finish(y))
    with pytest.raises(EngineError, match="cannot run in batches: node 0"):
        with_batch(program, 2)


def test_rows_times_a_constant_matrix_run_in_batches() -> None:
    g = Int8Model()
    a, b, y = g.input((3, 4)), g.levels((4, 5)), g.activation((3, 5))
    g.op("BATCH_MATMUL", [a, b], y, "BatchMatMul")
    model = g.finish(y)
    assert_stacks(model, [random_inputs(model, seed) for seed in range(3)])


def test_a_plain_matrix_product_is_refused() -> None:
    g = Int8Model()
    a, b, y = g.input((3, 4)), g.input((4, 5)), g.activation((3, 5))
    g.op("BATCH_MATMUL", [a, b], y, "BatchMatMul")
    with pytest.raises(EngineError, match="no dimension for the batch"):
        with_batch(whole_program(g.finish(y)), 2)
