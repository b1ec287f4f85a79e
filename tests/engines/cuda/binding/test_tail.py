"""The end of a classifier in one kernel, on a CPU in the place of the GPU."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.binding.site import Choice, Site
from edgeq.engines.cuda.binding.table import choices
from edgeq.engines.cuda.binding.tail import candidates
from edgeq.engines.cuda.program.nodes import (
    Chain,
    Dense,
    Dequantize,
    Epilogue,
    Mean,
    Node,
    Pooling,
    Softmax,
    Value,
    Window,
)
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.harness import PLACEMENTS, MakeMachine, Placement, check_node
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine
from tests.engines.cuda.node_cases import assert_caught, epilogue, int8s

ORIN = Target(87)
EVERY = ("tail 32x1x1", "tail 8x1x1", "tail 8x4x8")
ALL = ("mean", "dense", "softmax", "dequantize")


def every_tail(node: Chain, site: Site) -> tuple[Choice, ...]:
    return tuple(candidates(node.parts, site))


def check(
    kinds: tuple[str, ...] = ALL,
    x: tuple[int, ...] = (1, 3, 4, 20),
    outputs: int = 10,
    *,
    table: bool = False,
    placements: dict[int, Placement] | None = None,
    target: Target = ORIN,
    only: str = EVERY[0],
    machine: MakeMachine = EmulatedMachine,
) -> tuple[str, ...]:
    """Check the parts of these kinds on x [N, H, W, C]; without an average, H and W are 1."""
    random = np.random.default_rng(7)
    features = x[-1]
    shapes = [x, *[(x[0], features if kind in ("mean", "pool") else outputs) for kind in kinds]]
    values = [Value(f"v{index}", shape, "int8") for index, shape in enumerate(shapes)]
    if kinds[-1] == "dequantize":
        values[-1] = Value("y", shapes[-1], "float32")
    ending = epilogue(random, outputs, features)
    if table:
        ending = Epilogue(ending.requantization, table=int8s(random, 256))
    weights = int8s(random, outputs, features)
    parts = tuple(part(kind, index, x, ending, weights) for index, kind in enumerate(kinds))
    arrays = {0: int8s(random, *x)}
    node = Chain(parts)
    binder = every_tail if only in EVERY else choices
    names = check_node(
        binder, node, values, arrays, target, placements=placements, only=only, machine=machine
    )
    assert names
    return names


def part(kind: str, index: int, x: tuple[int, ...], ending: Epilogue, weights: np.ndarray) -> Node:
    outputs, features = weights.shape
    n, count = x[0], x[1] * x[2] if len(x) == 4 else 1
    if kind == "mean":
        scale = float(np.float32(1.3 / count))
        return Mean(index, index + 1, n, count, features, scale, 4.4, -128, 120)
    if kind == "pool":
        window = Window((x[1], x[2]), (x[1], x[2]))
        return Pooling("average", index, index + 1, window, -128, 127)
    if kind == "dense":
        return Dense(index, index + 1, weights, 4, ending)
    if kind == "softmax":
        table = np.exp(-np.arange(256) * np.float32(0.05)).astype(np.float32)
        return Softmax(index, index + 1, outputs, table, 1 / 256, -128)
    return Dequantize(index, index + 1, 1 / 256, -128)


@pytest.mark.parametrize(
    "kinds",
    [
        ALL,
        ALL[:3],
        ALL[:2],
        ALL[1:],
        ALL[1:3],
        ("dense", "dequantize"),
        ("mean", "dense", "dequantize"),
    ],
)
def test_every_part_may_be_missing(kinds: tuple[str, ...]):
    x = (2, 3, 4, 20) if kinds[0] == "mean" else (2, 20)
    check(kinds, x)


def test_pooling_averages_in_integers():
    x = (1, 3, 4, 20)
    check(("pool", "dense", "softmax"), x)


def test_several_blocks_share_a_row():
    check(x=(2, 2, 3, 40), outputs=70, only=EVERY[1])  # 32 outputs a block
    check(x=(2, 2, 3, 40), outputs=70, only=EVERY[0])


def test_many_features_take_all_threads_in_turns():
    check(x=(1, 2, 2, 1100), outputs=5)
    check(x=(1, 2, 2, 30), outputs=600, only=EVERY[2])


def test_logits_may_go_through_a_table():
    check(table=True)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_x_may_lie_in_others(placement: str):
    check(x=(2, 3, 2, 18), placements={0: PLACEMENTS[placement]})


@pytest.mark.parametrize("sm", [53, 75])
def test_every_target_has_it(sm: int):
    check(target=Target(sm))


def test_the_parts_may_run_one_after_the_other():
    names = check(only="dense_gemv")
    assert all(name.count(" + ") == 3 for name in names)


def test_ptx_does_the_same():
    check(x=(1, 2, 2, 20), outputs=70, only=EVERY[1], machine=InterpretedMachine)


FAULTS = {
    "no barrier before the row is read": (
        "tail_row((i8*)row, x);\n  __syncthreads();",
        "tail_row((i8*)row, x);",
    ),
    "no barrier before totals are read": ("= total;\n  }\n  __syncthreads();", "= total;\n  }"),
    "softmax by the block before the last": ("!= EQ_BLOCKS - 1", "!= EQ_BLOCKS - 2"),
    "a counter left behind": ("eq_store_shared_by_blocks(counter, 0)", "(void)0"),
    "half of the lanes": ("mask = EQ_PARTS / 2", "mask = EQ_PARTS / 4"),
    "the second channel for the third": ("0x00010000", "0x00000100"),
    "the zero point added": ("v - EQ_DEQUANTIZE", "v + EQ_DEQUANTIZE"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str):
    def faulty(machine: MakeMachine) -> object:
        return check(x=(1, 4, 4, 140), outputs=70, only=EVERY[1], machine=machine)

    assert_caught(faulty, *FAULTS[fault])
