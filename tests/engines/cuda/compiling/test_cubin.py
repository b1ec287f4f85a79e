from __future__ import annotations

import pytest

from edgeq.engines.cuda.compiling.cubin import Resources, read_resources
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from tests.engines.cuda.compilers import real_compiler

# `spilling` has 64 values alive at a barrier, and is compiled for 32 registers.
SOURCE = """
__constant__ int table[100] = {1, 2, 3};
extern "C" __global__ void __launch_bounds__(128) shared(int* y, const int* x) {
  __shared__ int s[300];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[y[0]] + table[x[0]];
}
extern "C" __global__ void spilling(int* y, const int* x, int n) {
  int a[64];
#pragma unroll
  for (int i = 0; i < 64; i++) a[i] = x[i * n];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; i++) y[i * n + a[63 - i]] = a[i];
}
"""
REGISTERS_OF_SHARED = {87: 14, 90: 16}  # `ptxas -v` of CUDA 13.0


def resources(sm: int) -> dict[str, Resources]:
    options = ("-std=c++17", "-maxrregcount=32")
    return read_resources(real_compiler(Target(sm)).compile(SOURCE, Target(sm), options=options)
                          .image)  # fmt: skip


@pytest.mark.parametrize("sm", [53, 72, 75, 87, 90, 101, 120])
def test_registers_shared_memory_and_spills_are_read_from_the_elf(sm):
    found = resources(sm)
    assert set(found) == {"shared", "spilling"}
    assert found["shared"].shared_bytes == 1200
    assert found["shared"].stack_bytes == 0
    assert 8 <= found["shared"].registers <= 20
    assert found["shared"].registers == REGISTERS_OF_SHARED.get(sm, found["shared"].registers)
    assert found["spilling"].registers == 32
    assert found["spilling"].shared_bytes == 0
    assert found["spilling"].stack_bytes >= 64
    for kernel in found.values():
        assert kernel.constant_bytes >= 400 + 16
        assert kernel.code_bytes > 0


def test_a_cubin_cut_off_anywhere_is_an_error():
    image = real_compiler().compile(SOURCE, Target(87)).image
    for size in range(0, len(image) - 1, len(image) // 40):
        with pytest.raises(EngineError, match="no whole cubin"):
            read_resources(image[:size])


def test_damaged_bytes_give_resources_or_an_error_of_ours():
    image = bytearray(real_compiler().compile(SOURCE, Target(87)).image)
    for place in range(0, len(image), 97):
        damaged = bytes(image[:place]) + bytes([image[place] ^ 0xFF]) + bytes(image[place + 1 :])
        try:
            read_resources(damaged)
        except EngineError as error:
            assert "no whole cubin" in error.message  # noqa: PT017 - most bytes do not matter


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(100)])
def test_what_is_no_cubin_is_an_error(content):
    with pytest.raises(EngineError, match=f"{len(content)} bytes are no whole cubin"):
        read_resources(content)
