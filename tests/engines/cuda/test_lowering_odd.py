"""Ops at odd extents, strides, scales and zero points give the CPU engine's bytes, every one."""

from __future__ import annotations

import zlib

import pytest

from edgeq.engines.cuda.partition import partition
from tests.engines.cuda.int8_models import random_inputs
from tests.engines.cuda.lowered import differing_bytes
from tests.engines.cuda.odd_models import ODD, Odd

MODELS_OF_EACH = 12


@pytest.mark.parametrize("name", ODD)
def test_an_odd_op_gives_the_cpu_engine_s_bytes(name: str) -> None:
    first = zlib.crc32(name.encode())
    for seed in range(first, first + MODELS_OF_EACH):
        model = ODD[name](Odd(seed))
        assert partition(model).is_whole, f"seed {seed}"
        samples = [random_inputs(model, sample) for sample in range(3)]
        assert differing_bytes(model, samples) == 0, f"seed {seed}"
