from __future__ import annotations

import pytest

from edgeq.engines.cuda.estimating.occupancy import Occupancy, limits_of, occupancy
from edgeq.engines.cuda.targets import KNOWN, Target

# CUDA's occupancy calculator, by hand: (sm, threads, registers, shared bytes) -> blocks, limit.
CASES = [
    ((87, 128, 96, 24576), (5, "registers")),
    ((87, 128, 32, 24576), (6, "shared memory")),
    ((87, 256, 32, 0), (6, "threads")),
    ((87, 32, 16, 0), (16, "blocks")),
    ((53, 128, 96, 8448), (5, "registers")),
    ((53, 64, 32, 8448), (7, "shared memory")),
    ((75, 256, 64, 0), (4, "threads")),
    ((90, 128, 128, 24576), (4, "registers")),
    ((72, 128, 88, 8448), (5, "registers")),
]


@pytest.mark.parametrize(("block", "expected"), CASES)
def test_the_scarcest_thing_limits_the_resident_blocks(block, expected):
    sm, threads, registers, shared_bytes = block
    found = occupancy(Target(sm), threads, registers, shared_bytes)
    assert (found.blocks, found.limit) == expected
    assert found.warps == found.blocks * threads // 32
    assert 0 < found.ratio <= 1


@pytest.mark.parametrize(
    ("block", "limit"),
    [
        ((53, 1024, 64, 0), "registers"),  # 32768 of a block, though 65536 are there
        ((62, 512, 128, 0), "registers"),
        ((53, 128, 32, 49153), "shared memory"),
        ((87, 128, 32, 163 * 1024 + 1), "shared memory"),
        ((75, 128, 32, 65537), "shared memory"),
    ],
)
def test_a_block_that_cannot_be_launched_is_held_nowhere(block, limit):
    sm, threads, registers, shared_bytes = block
    found = occupancy(Target(sm), threads, registers, shared_bytes)
    assert found == Occupancy(0, 0, 0.0, limit)


@pytest.mark.parametrize("sm", KNOWN)
def test_every_known_target_has_limits(sm):
    limits = limits_of(Target(sm))
    assert limits.blocks >= 16
    assert limits.block_shared_bytes >= 48 * 1024
    assert limits.shared_bytes >= limits.block_shared_bytes


def test_a_kernel_that_needs_little_fills_a_multiprocessor():
    assert occupancy(Target(90), 256, 32).ratio == 1.0
