"""Where a plan's memory lies: no two things overlap, and zero copy moves the ports to the host."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from edgeq.engines.cuda.gpu.memory import lay_out
from edgeq.engines.cuda.launch import Launch, Pointer
from edgeq.engines.cuda.planning.plan import Port

DEVICE, HOST = 0x10000000, 0x20000000


@dataclass(frozen=True)
class Needs:
    constants: bytes = bytes(300)
    arena_bytes: int = 1000
    scratch_bytes: int = 4
    inputs: tuple[Port, ...] = (Port("a", (1, 5), "float32"), Port("b", (300,), "int8"))
    outputs: tuple[Port, ...] = (Port("y", (2, 3), "int32"),)
    launches: tuple[Launch, ...] = ()


SPACES = [
    (Pointer("arena"), 1000),
    (Pointer("constants"), 300),
    (Pointer("scratch"), 4),
    (Pointer("input", index=0), 20),
    (Pointer("input", index=1), 300),
    (Pointer("output", index=0), 24),
]


@pytest.mark.parametrize("zero_copy", [False, True])
def test_everything_has_a_place_of_its_own_at_a_multiple_of_256(zero_copy):
    places = lay_out(Needs(), zero_copy=zero_copy)
    blocks = {DEVICE: places.device_bytes, HOST: places.host_bytes}
    taken = []
    for pointer, size in SPACES:
        start = places.address(pointer, DEVICE, HOST)
        assert start % 256 == 0
        base = max(b for b in blocks if b <= start)
        assert start + size <= base + blocks[base]
        taken.append((start, start + size))
    for (_, end), (start, _) in itertools.pairwise(sorted(taken)):
        assert end <= start


def test_kernels_work_on_the_host_s_block_with_zero_copy_and_on_a_copy_without():
    for zero_copy, base in ((True, HOST), (False, DEVICE)):
        places = lay_out(Needs(), zero_copy=zero_copy)
        address = places.address(Pointer("output", offset=8), DEVICE, HOST)
        assert places.is_zero_copy == zero_copy
        assert base <= address < base + 0x10000000


def test_inputs_come_before_outputs_so_that_each_side_is_one_copy():
    places = lay_out(Needs(), zero_copy=False)
    assert max(places.inputs) < places.input_bytes <= min(places.outputs)
    assert places.input_bytes == 256 + 512
    assert places.device_bytes == 1024 + 512 + 256 + places.host_bytes


def test_an_offset_into_a_space_is_kept():
    places = lay_out(Needs(), zero_copy=False)
    start = places.address(Pointer("constants"), DEVICE, HOST)
    assert places.address(Pointer("constants", 44), DEVICE, HOST) == start + 44


def test_a_plan_that_needs_nothing_still_has_an_address():
    empty = Needs(b"", 0, 0, (), ())
    for zero_copy in (False, True):
        places = lay_out(empty, zero_copy=zero_copy)
        assert places.device_bytes > 0
        assert places.host_bytes > 0
