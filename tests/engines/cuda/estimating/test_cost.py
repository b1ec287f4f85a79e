from __future__ import annotations

import dataclasses

import pytest

from edgeq.engines.cuda.estimating.boards import BOARDS, board_for, board_of_device
from edgeq.engines.cuda.estimating.cost import LAUNCH_US, Demand, estimate, roofline
from edgeq.engines.cuda.launch import Work
from edgeq.engines.cuda.targets import KNOWN, Target

ORIN = Target(87)
BY_NAME = {board.name: board for board in BOARDS}
IDLE = Demand(blocks=1, threads=128, moved_bytes=0)

# Dense INT8 peaks of the GPU alone, 10^12 operations a second, as NVIDIA's data sheets give them.
PEAKS = {
    "Jetson AGX Xavier": 22,
    "T4": 130,
    "A100": 624,
    "RTX 3060": 102,
    "Jetson Orin Nano": 20,
    "Jetson Orin Nano Super": 33.5,
    "Jetson AGX Orin": 85,
    "L4": 242,
    "RTX 4090": 661,
    "H200": 1979,
    "B200": 4500,
    "RTX 5090": 838,
}


# ---- boards


@pytest.mark.parametrize("name", PEAKS)
def test_clock_times_multiprocessors_is_the_data_sheet_s_peak(name):
    assert BY_NAME[name].int8_tops == pytest.approx(PEAKS[name], rel=0.035)


@pytest.mark.parametrize("sm", KNOWN)
def test_every_known_target_has_a_board_to_plan_for(sm):
    board = board_for(Target(sm))
    assert board.target.sm <= sm
    assert board.multiprocessors >= 1
    assert board.products_a_cycle(board.best_unit()) >= 128


def test_a_target_that_says_its_size_is_planned_for_the_nearest_board():
    agx = board_for(Target(87, multiprocessors=16))
    assert (agx.name, agx.gigabytes_per_s) == ("Jetson AGX Orin", 204.8)
    between = board_for(Target(87, multiprocessors=12))
    assert (between.name, between.multiprocessors) == ("Jetson AGX Orin 32GB", 12)
    assert board_for(Target(87)).name == board_for(Target(87, multiprocessors=8)).name
    assert board_for(Target(88, multiprocessors=12)).multiprocessors == 12


def test_what_multiplies_int8_fastest_goes_by_the_architecture():
    units = {name: BY_NAME[name].best_unit() for name in BY_NAME}
    assert units["Jetson Nano"] == units["Jetson TX2"] == "float"
    assert units["GTX 1060"] == "dp4a"
    assert units["Jetson Xavier NX"] == units["Jetson Orin Nano"] == "tensor"


def test_a_device_is_what_its_attributes_say():
    board = board_of_device("Orin", ORIN, 16, 1_300_000, 3_200_000, 256)
    assert (board.multiprocessors, board.gigahertz) == (16, 1.3)
    assert board.gigabytes_per_s == pytest.approx(204.8)
    assert board.int8_tops == pytest.approx(85, rel=0.01)


def test_without_a_memory_clock_the_nearest_known_board_s_bandwidth_is_taken():
    assert board_of_device("Orin", ORIN, 16, 1_300_000, 0, 256).gigabytes_per_s == 204.8
    assert board_of_device("new", Target(88), 8, 1_000_000, 0, 0).gigabytes_per_s == 68


# ---- estimates


def test_a_launch_that_does_nothing_costs_its_launch():
    found = estimate(ORIN, IDLE)
    assert found.bound == "launch"
    assert LAUNCH_US < found.microseconds < 1.5 * LAUNCH_US  # and one load from memory


@pytest.mark.parametrize(
    ("more", "bound"),
    [
        ({"moved_bytes": 10_000_000}, "memory"),
        ({"fetched_bytes": 10_000_000}, "fetching"),
        ({"products": 1e9}, "products"),
        ({"instructions": 100_000.0}, "instructions"),
        ({"rounds": 1000.0}, "latency"),
    ],
)
def test_what_a_launch_does_most_of_binds_it(more, bound):
    found = estimate(ORIN, dataclasses.replace(IDLE, blocks=64, **more))
    assert found.bound == bound
    twice = {name: 2 * value for name, value in more.items()}
    doubled = estimate(ORIN, dataclasses.replace(IDLE, blocks=64, **twice))
    assert 1.7 < doubled.microseconds / found.microseconds < 2


def test_a_block_more_than_multiprocessors_costs_as_much_as_twice_as_many():
    per_block = 1e7
    demands = (Demand(n, 256, 0, products=n * per_block) for n in (8, 9, 16))
    times = [estimate(ORIN, demand).microseconds for demand in demands]
    assert times[0] < times[1]
    assert times[1] == pytest.approx(times[2])


def test_more_blocks_than_are_resident_come_in_waves():
    crowded = Demand(160, 128, 0, registers=96, shared_bytes=24576)
    assert estimate(ORIN, crowded).waves == 4  # 20 on each of 8, 5 at once


def test_a_block_that_cannot_be_launched_is_never_chosen():
    assert estimate(Target(53), Demand(1, 1024, 0, registers=64)).microseconds == float("inf")


def test_splitting_a_long_sum_pays_where_multiprocessors_idle():
    def late_layer(splits: int) -> float:
        return estimate(
            BY_NAME["Jetson AGX Orin"].target,
            Demand(4 * splits, 128, 600_000, products=49 * 512 * 4608 * 1.3, rounds=72 / splits),
            BY_NAME["Jetson AGX Orin"],
        ).microseconds

    assert late_layer(4) < 0.5 * late_layer(1)


def test_a_faster_board_is_never_slower():
    demand = Demand(500, 128, 2_000_000, 8_000_000, 3e8, rounds=9, registers=96)
    nano, agx = BY_NAME["Jetson Orin Nano"], BY_NAME["Jetson AGX Orin"]
    slow, fast = estimate(ORIN, demand, nano), estimate(ORIN, demand, agx)
    assert fast.microseconds < slow.microseconds
    assert estimate(ORIN, demand) == slow  # the smallest, where none is given


# ---- the roofline


def test_the_roofline_is_the_board_s_peak_or_its_memory():
    agx = BY_NAME["Jetson AGX Orin"]
    heavy = roofline(agx, Work(4_000_000_000, 1_000_000, 1_000_000))
    assert heavy.bound == "products"
    assert heavy.microseconds == pytest.approx(8e9 / 85.2e12 * 1e6, rel=0.01)
    light = roofline(agx, Work(1000, 100_000, 104_800))
    assert light.bound == "memory"
    assert light.microseconds == pytest.approx(1.0)


def test_no_estimate_is_below_the_roofline():
    for board in BOARDS:
        products, moved = 2e8, 1_500_000
        unit = board.best_unit()
        demand = Demand(4096, 128, moved, products=products, unit=unit, registers=32)
        floor = roofline(board, Work(int(products), moved, 0)).microseconds
        assert estimate(board.target, demand, board).microseconds >= floor
