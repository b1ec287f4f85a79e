"""What is offered for a convolution, and how it is put into kernels' constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeq.engines.cuda.binding.convolution import OFFERED, choices, every
from edgeq.engines.cuda.binding.convolution_gather import Gather
from edgeq.engines.cuda.binding.convolution_mma import MmaTile, WmmaTile
from edgeq.engines.cuda.binding.convolution_problem import Problem
from edgeq.engines.cuda.binding.packing import Pixels
from edgeq.engines.cuda.launch import Pointer, View
from edgeq.engines.cuda.program.nodes import Value
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.convolutions import Case, make
from tests.engines.cuda.harness import DENSE, PITCH_4, PITCH_16, Placement, TestSite

LARGE = Case(h=28, w=28, c=128, oc=128)
TEMPLATES = {
    53: "conv_int16",
    61: "conv_dp4a",
    62: "conv_int16",
    72: "conv_wmma",
    75: "conv_mma_8816",
    87: "conv_mma",
    101: "conv_mma",
    120: "conv_mma",
}
NOT_FOLDED: dict[str, tuple[dict[str, Any], Placement]] = {
    "a stride of 1": ({"stride": (1, 1)}, PITCH_4),
    "an odd width": ({"w": 9}, PITCH_4),
    "a dilation": ({"dilation": (2, 2)}, PITCH_4),
    "one column": ({"kernel": (1, 1)}, PITCH_4),
    "many channels": ({"c": 12}, PITCH_4),
    "pixels among others": ({}, Placement(4, owns_padding=False)),
}
LATE = Case(h=7, w=7, c=512, oc=512)


def site(case: Case, sm: int, placement: Placement = PITCH_16) -> TestSite:
    made = make(case)
    return TestSite(Target(sm), made.values, dict.fromkeys((0, 1, 2), placement), (0, 1, 2))


def offered(case: Case, sm: int, placement: Placement = PITCH_16) -> list[str]:
    return [choice.name for choice in choices(make(case).node, site(case, sm, placement))]


def problem(case: Case, sm: int = 87, placement: Placement = PITCH_16) -> Problem:
    return Problem.of(make(case).node, site(case, sm, placement))


@pytest.mark.parametrize(("sm", "template"), TEMPLATES.items())
def test_the_best_is_what_the_architecture_has(sm: int, template: str) -> None:
    assert offered(LARGE, sm)[0].split()[0] == template


def test_the_estimate_orders_choices_of_different_shapes() -> None:
    found = choices(make(LATE).node, site(LATE, 87))
    shapes = [choice.name.partition(" w")[0] for choice in found[:8]]
    assert found[0].microseconds == min(choice.microseconds for choice in found)
    assert all(shapes.count(shape) <= 2 for shape in shapes)
    assert len(found) <= OFFERED + 1
    assert "conv_direct" in {choice.name for choice in found}


def test_a_small_late_layer_is_split_along_k() -> None:
    splits = [
        choice.name.rpartition(" k")[2] for choice in choices(make(LATE).node, site(LATE, 90))
    ]
    assert splits[0] != "1"


def test_no_block_of_a_split_is_idle() -> None:
    for choice in every(problem(Case(c=80, oc=16))):
        (launch,) = choice.bind()
        known: dict[str, Any] = dict(launch.kernel.constants)
        if "SPLITS" in known:
            steps = -(-9 * 80 // known["BK"])
            assert (known["SPLITS"] - 1) * known["SPLIT_STEPS"] < steps
            assert launch.grid[2] == known["SPLITS"]


def test_a_window_of_16_rows_is_left_to_the_direct_kernel() -> None:
    case = Case(h=20, w=4, kernel=(16, 1), before=(0, 0), after=(0, 0))
    assert offered(case, 87) == ["conv_direct"]


def test_more_shared_memory_than_48_kib_is_asked_for() -> None:
    large = [choice for choice in every(problem(LARGE)) if "128x128x64 w64x64 s6 k1" in choice.name]
    (launch,) = large[0].bind()
    assert launch.kernel.dynamic_shared_bytes > 48 * 1024
    assert dict(launch.kernel.constants)["IS_DYNAMIC"] == 1


def test_the_work_is_the_convolutions_own_even_where_it_is_folded() -> None:
    case = Case(h=8, w=8, c=3, oc=4, stride=(2, 2), before=(0, 0))
    plain = problem(case, placement=PITCH_4)
    folded = plain.folded()
    assert folded is not plain
    assert folded.work == plain.work
    assert plain.work.multiply_accumulates == 16 * 4 * 27
    assert (folded.x.w, folded.x.channels, folded.window.size) == (4, 8, (3, 2))


@pytest.mark.parametrize("name", NOT_FOLDED)
def test_other_convolutions_are_not_folded(name: str) -> None:
    change, placement = NOT_FOLDED[name]
    plain = problem(replace(Case(h=8, w=8, c=3, stride=(2, 2)), **change), placement=placement)
    assert plain.folded() is plain


@pytest.mark.parametrize(
    ("channels", "placement", "unit"),
    [(32, DENSE, 16), (24, DENSE, 8), (20, DENSE, 4), (20, PITCH_16, 16), (3, PITCH_4, 4)],
)
def test_as_many_bytes_are_read_at_once_as_the_view_allows(
    channels: int, placement: Placement, unit: int
) -> None:
    gather = Gather.of(problem(Case(c=channels), placement=placement), 64)
    assert gather is not None
    assert gather.unit == unit


def test_odd_places_have_no_gather() -> None:
    assert Gather.of(problem(Case(c=3), placement=DENSE), 64) is None


def test_shortcuts_of_the_epilogue_are_taken_only_where_they_are_exact() -> None:
    assert problem(Case(kernel=(1, 1))).bounds() == {"SUM_IS_SMALL": 1, "RESULT_IS_SMALL": 1}
    assert problem(Case(c=2048)).bounds() == {"SUM_IS_SMALL": 0, "RESULT_IS_SMALL": 1}
    made = make(Case(kernel=(1, 1)))
    requantization = made.node.epilogue.requantization
    steep = replace(requantization, scale=np.full(16, 1e3, np.float32))
    node = replace(made.node, epilogue=replace(made.node.epilogue, requantization=steep))
    found = Problem.of(node, site(Case(kernel=(1, 1)), 87))
    assert found.bounds() == {"SUM_IS_SMALL": 1, "RESULT_IS_SMALL": 0}


@pytest.mark.parametrize(
    "tile", [MmaTile(16, 32, 16, 16, "conv_mma", 3), WmmaTile(16, 32, 16, 16, "conv_wmma", 2)]
)
def test_rearranged_weights_are_the_same_bytes(tile: MmaTile) -> None:
    weights = np.arange(64 * 128).reshape(64, 128).astype(np.int8)
    arranged = tile.arrange(weights)
    assert sorted(arranged.ravel()) == sorted(weights.ravel())
    chunks = {bytes(chunk) for chunk in weights.reshape(-1, 16)}
    assert {bytes(chunk) for chunk in arranged.reshape(-1, 16)} == chunks


def test_a_value_beyond_2_gib_is_refused() -> None:
    view = View.of(Pointer("arena"), (64, 2048, 2048, 16))
    with pytest.raises(EngineError, match="4294967296 bytes"):
        Pixels.of(view)


def test_a_value_of_rank_5_is_refused() -> None:
    with pytest.raises(EngineError, match="rank 5"):
        Pixels.of(View.of(Pointer("arena"), (1, 2, 3, 4, 5)))


def test_a_value_without_channels_to_spare_has_no_room() -> None:
    value = Value("x", (1, 2, 2, 12), "int8")
    owned = TestSite(Target(87), [value], {0: PITCH_16}, (0,)).view(0)
    assert Pixels.of(owned).has_room(16)
    assert not Pixels.of(replace(owned, owns_padding=False)).has_room(16)
