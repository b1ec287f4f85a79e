"""Faults put into the kernels without products on purpose: each must fail the check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from edgeq.engines.cuda.binding.table import choices
from edgeq.engines.cuda.program.nodes import (
    Addition,
    Axis,
    BilinearResize,
    ChannelLookup,
    Lookup,
    Mean,
    Move,
    Node,
    Pooling,
    Product,
    Quantize,
    Softmax,
    Sum,
    Value,
    Window,
)
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PITCH_4, PITCH_16, check_node
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine

RANDOM = np.random.default_rng(29)
X = (2, 5, 6, 20)
ADDITION = Addition(700_001, -333_003, 5_000_000, 19, -7, -100, 121)
TABLE = RANDOM.integers(-128, 128, 256).astype(np.int8)
EXPONENTIALS = np.exp(-0.02 * np.arange(256)).astype(np.float32)
EXPONENTIALS[[0, 10, 20, 30, 40, 50]] = [1, 1 / 2, 1 / 4, 1 / 8, 1 / 512, 63 / 512]
SCALE = 1 / 4096  # of softmax: fine enough for a last bit of the sum to show in some rows
HALVES = [*[100] * 15, 90, 80, 70, 60, 50]  # the terms' sum is 16: the last two give 0.5, 31.5
PADDED = tuple(
    Axis(size, start, 1, extent, stride)
    for size, start, extent, stride in zip((2, 7, 6, 20), (0, -1, 0, 0), X, (600, 120, 20, 1),
                                           strict=True)
)  # fmt: skip
WINDOW = Window((3, 3), (2, 2), before=(1, 1), after=(1, 0))
FIVE = np.int32([0, 1, 2, 3, 4])
SIX = np.int32([0, 1, 2, 3, 4, 5])


def pairs(first: np.ndarray) -> np.ndarray:
    return np.stack([first, np.minimum(first + 1, first.max())], axis=1).astype(np.int32)


NODES: dict[str, tuple[Node, tuple[int, ...]]] = {  # node, shape of y
    "quantize": (Quantize(2, 1, 21.0, 3), (2, 5, 6, 6)),
    "sum": (Sum(0, 3, 1, ADDITION), X),
    "product": (Product(0, 3, 1, 3, -4, 0.02, 1, -128, 127), X),
    "lookup": (Lookup(0, 1, TABLE), X),
    "channel_lookup": (ChannelLookup(0, 1, RANDOM.permuted(np.tile(TABLE, (20, 1)), axis=1)), X),
    "pooling": (Pooling("average", 0, 1, WINDOW, -128, 127), (2, 3, 3, 20)),
    "reduce_columns": (Mean(0, 1, 2, 30, 20, 0.05, 0.3, -128, 127), (2, 20)),
    "reduce_rows": (Mean(0, 1, 60, 20, 1, 0.05, 0.3, -128, 127), (2, 5, 6)),
    "softmax": (Softmax(0, 1, 20, EXPONENTIALS, SCALE, -128), X),
    "move": (Move(0, 1, PADDED, (840, 120, 20, 1), fill=7, mirror="reflect"), (2, 7, 6, 20)),
    "resize_bilinear": (BilinearResize(0, 1, pairs(FIVE), pairs(SIX), FIVE * 400, SIX * 300), X),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """In a kernel, `old` becomes `new`, once."""

    template: str
    old: str
    new: str
    machine: type[EmulatedMachine | InterpretedMachine] = EmulatedMachine


TERMS = "0.0f;\n    }\n    __syncthreads();\n"
MUTANTS = {
    "a row's end not minded": Mutant("quantize", "t % EQ_GROUPS", "(t + 1) % EQ_GROUPS"),
    "truncation": Mutant("quantize", "eq_rint(v)", "__float2int_rz(v)"),
    "factors exchanged": Mutant("sum", "a * EQ_A_FACTOR", "a * EQ_B_FACTOR"),
    "b read by a's strides": Mutant("product", "sizes, b_strides", "sizes, y_strides"),
    "the other zero point": Mutant("product", "b - EQ_B_ZERO", "b - EQ_A_ZERO"),
    "no barrier after the table": Mutant("lookup", "  __syncthreads();\n", "", InterpretedMachine),
    "the next channel's table": Mutant("channel_lookup", "i * 256", "(i ^ 1) * 256"),
    "padding counted": Mutant("pooling", "(last_row - first_row)", "EQ_KH"),
    "a window too low": Mutant("pooling", "top + EQ_KH", "top + EQ_KH - 1"),
    "half down": Mutant("pooling", "+ count / 2", "+ (count - 1) / 2"),
    "no barrier before the sums meet": Mutant(
        "reduce_columns", "    __syncthreads();\n", "", InterpretedMachine
    ),
    "a part left out": Mutant("reduce_columns", "half = EQ_SPLIT / 2", "half = EQ_SPLIT / 4"),
    "a value counted twice": Mutant("reduce_columns", "int k = part;", "int k = part / 2;"),
    "lanes that do not meet": Mutant("reduce_rows", "distance = 16", "distance = 2"),
    "no barrier before the addition": Mutant("softmax", TERMS, TERMS[: TERMS.index("    __sync")]),
    "no barrier before the maximum": Mutant(
        "softmax", "maxima[threadIdx.x] = maximum;\n  __syncthreads();\n",
        "maxima[threadIdx.x] = maximum;\n", InterpretedMachine,
    ),
    "another order of addition": Mutant("softmax", "four.x), four.y)", "four.y), four.x)"),
    "rounding to even": Mutant("softmax", ">= 0.5f", "> 0.5f"),
    "reflected about the edge": Mutant("move", "i = -i - EQ_MIRROR_EDGE", "i = -i - 1"),
    "a corner's weight exchanged": Mutant(
        "resize_bilinear", "{row.z * (2048 - column.z), row.z * column.z}",
        "{row.z * column.z, row.z * (2048 - column.z)}",
    ),
    "rounding down": Mutant("resize_bilinear", "+ (1 << 21)", ""),
}  # fmt: skip


def check(template: str, machine: partial[EmulatedMachine | InterpretedMachine]) -> tuple[str, ...]:
    node, shape = NODES[template]
    random = np.random.default_rng(31)
    values = [
        Value("x", X, "int8"),
        Value("y", shape, "int8"),
        Value("image", (2, 5, 6, 6), "float32"),
        Value("b", (1, 1, 6, 20), "int8"),
    ]
    arrays = {
        0: random.integers(-128, 128, X).astype(np.int8),
        2: (random.integers(-300, 300, (2, 5, 6, 6)) / np.float32(42)).astype(np.float32),
        3: random.integers(-128, 128, (1, 1, 6, 20)).astype(np.int8),
    }
    if template == "softmax":
        arrays[0] = rows_that_mind_their_order(random)
    placements = {0: PITCH_4, 1: PITCH_16, 3: PITCH_4}
    return check_node(choices, node, values, arrays, Target(87), seeds=(0, 1, 2), only=template,
                      placements=placements, machine=machine)  # fmt: skip


def rows_that_mind_their_order(random: np.random.Generator) -> np.ndarray:
    """Return rows whose softmax is another where of each four the second comes first."""
    x = random.integers(60, 128, (100_000, 20)).astype(np.int8)
    terms = EXPONENTIALS[x.max(axis=1, keepdims=True).astype(int) - x]
    swapped = terms.reshape(-1, 5, 4)[:, :, [1, 0, 2, 3]].reshape(-1, 20)
    one, other = (shares(terms, np.cumsum(order, axis=1)[:, -1:]) for order in (terms, swapped))
    found = x[(one != other).any(axis=1)]
    assert len(found)
    rows = np.resize(found, (60, 20))
    rows[0] = HALVES
    return rows.reshape(X)


def shares(terms: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.floor(terms * (np.float32(1) / (total * np.float32(SCALE))) + np.float64(0.5))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    mutant, cuts = MUTANTS[name], []

    def edit(source: str) -> str:
        cuts.append(source.count(mutant.old))
        return source.replace(mutant.old, mutant.new)

    with pytest.raises(AssertionError):
        check(mutant.template, partial(mutant.machine, edit=edit))
    assert cuts
    assert min(cuts) >= 1, "nothing was changed"


@pytest.mark.parametrize("template", NODES)
def test_what_the_mutants_are_made_of_is_sound(template: str) -> None:
    assert check(template, partial(EmulatedMachine))
