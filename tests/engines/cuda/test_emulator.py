"""The emulation of a GPU: right where a kernel is right, and a clear fault where it is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from edgeq.engines.cuda.compiling.render import template
from edgeq.engines.cuda.launch import Kernel, Launch, Pointer
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.emulator.emulator import EmulatorFault
from tests.engines.cuda.machines import EmulatedMachine
from tests.engines.cuda.spaces import Contents, MachineFault

KERNEL = Kernel("lookup", (), 64)
INPUT, OUTPUT, SCRATCH = Pointer("input"), Pointer("output"), Pointer("scratch")
SEEDS = (0, 1, 2)


@contextmanager
def machine_of(
    body: str,
    given: np.ndarray,
    outputs: int,
    *,
    pointers: str = "const int* x, int* y",
    seed: int = 0,
) -> Iterator[EmulatedMachine]:
    """A machine whose every kernel is `body`, with x an input and y of `outputs` ints."""
    kernel = f"EQ_KERNEL(EQ_THREADS, 1) void probe({pointers}) {{\n{body}\n}}\nEQ_EXPORT(probe)\n"
    source = "\n".join([template("device.cuh"), kernel])
    contents = Contents(
        np.zeros(0, np.uint8),
        np.arange(256, dtype=np.uint8),
        16,
        (given.view(np.uint8),),
        (np.full(4 * outputs, 0xEE, np.uint8),),
    )
    machine = EmulatedMachine(contents, Target(87), seed, lambda _: source)
    try:
        yield machine
    finally:
        machine.close()


def run(
    body: str,
    given: np.ndarray,
    outputs: int,
    *,
    threads: int = 64,
    blocks: int = 1,
    seed: int = 0,
    dynamic: int = 0,
    pointers: str = "const int* x, int* y",
    places: Sequence[Pointer] = (INPUT, OUTPUT),
) -> np.ndarray:
    with machine_of(body, given, outputs, pointers=pointers, seed=seed) as machine:
        kernel = Kernel("lookup", (), threads, dynamic)
        machine.launch(Launch(kernel, (blocks, 1, 1), tuple(places), "probe"))
        return machine.memory("output").view(np.int32).copy()


NUMBERS = np.arange(64, dtype=np.int32)
REVERSED = """EQ_SMEM(raw, 64 * 4);
  int* tile = (int*)raw;
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];"""


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_lets_threads_read_what_others_wrote(seed):
    assert run(REVERSED, NUMBERS, 64, seed=seed).tolist() == NUMBERS[::-1].tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_barrier_shows_in_the_result(seed):
    broken = REVERSED.replace("__syncthreads();", "")
    assert run(broken, NUMBERS, 64, seed=seed).tolist() != NUMBERS[::-1].tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_copy_arrives_no_sooner_than_it_is_waited_for(seed):
    copied = """EQ_SMEM(tile, 256);
  if (threadIdx.x < 16) eq_cp_async<16>(tile + 16 * threadIdx.x, x + 4 * threadIdx.x);
  eq_cp_commit();
  WAIT
  __syncthreads();
  y[threadIdx.x] = ((int*)tile)[threadIdx.x];
  eq_cp_wait<0>();"""
    right = run(copied.replace("WAIT", "eq_cp_wait<0>();"), NUMBERS, 64, seed=seed)
    assert right.tolist() == NUMBERS.tolist()
    assert run(copied.replace("WAIT", ""), NUMBERS, 64, seed=seed).tolist() != NUMBERS.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_shuffle_sums_a_warp(seed):
    body = """int v = x[threadIdx.x];
  for (int d = 16; d; d >>= 1) v += eq_shfl_xor(v, d);
  y[threadIdx.x] = v;"""
    sums = run(body, NUMBERS, 64, seed=seed)
    assert set(sums[:32]) == {sum(range(32))}
    assert set(sums[32:]) == {sum(range(32, 64))}


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_count_themselves_and_leave_the_counter_zero(seed):
    body = """int before = eq_atomic_add(counter, 1);
  y[blockIdx.x * EQ_THREADS_ + threadIdx.x] = before;
  if (before == 63) eq_store_shared_by_blocks(counter, 0);"""
    counted = run(
        body.replace("EQ_THREADS_", "16"),
        NUMBERS,
        64,
        threads=16,
        blocks=4,
        seed=seed,
        pointers="int* counter, int* y",
        places=(SCRATCH, OUTPUT),
    )
    assert sorted(counted.tolist()) == list(range(64))


def multiplied(a: np.ndarray, b: np.ndarray, loads: str) -> np.ndarray:
    given = np.concatenate([a.reshape(-1), b.reshape(-1)]).view(np.int32)
    return run(loads, given, a.shape[0] * b.shape[0], threads=32)


@pytest.mark.parametrize(
    ("rows", "columns", "depth", "body"),
    [
        (
            16,
            8,
            32,
            """const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const int *b = x + 128;
  u32 a[4] = {(u32)x[g * 8 + t], (u32)x[(g + 8) * 8 + t], (u32)x[g * 8 + 4 + t],
              (u32)x[(g + 8) * 8 + 4 + t]};
  int c[4] = {0, 0, 0, 0};
  eq_mma_16832(c, a, b[g * 8 + t], b[g * 8 + 4 + t]);
  for (int i = 0; i < 4; i++) y[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = c[i];""",
        ),
        (
            8,
            8,
            16,
            """const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  int c[2] = {0, 0};
  eq_mma_8816(c[0], c[1], x[g * 4 + t], x[32 + g * 4 + t]);
  for (int i = 0; i < 2; i++) y[g * 8 + 2 * t + i] = c[i];""",
        ),
        (
            16,
            16,
            16,
            """u32 a[2], b[2];
  int c[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  eq_wmma_load_a(a, x, 16);
  eq_wmma_load_b(b, x + 64, 16);
  eq_wmma_mma(c, a, b);
  eq_wmma_store_c(y, c, 16);""",
        ),
    ],
    ids=["m16n8k32", "m8n8k16", "wmma"],
)
def test_tensor_cores_multiply(rows, columns, depth, body):
    rng = np.random.default_rng(1)
    a = rng.integers(-128, 128, (rows, depth)).astype(np.int8)
    b = rng.integers(-128, 128, (columns, depth)).astype(np.int8)
    expected = a.astype(np.int32) @ b.T.astype(np.int32)
    assert multiplied(a, b, body).reshape(rows, columns).tolist() == expected.tolist()


def test_ldmatrix_gives_every_lane_its_part_of_a_row():
    body = """EQ_SMEM(tile, 512);
  ((int4*)tile)[threadIdx.x] = eq_ldg4(x + 4 * threadIdx.x);
  eq_syncwarp();
  u32 r[4];
  eq_ldmatrix_x4(r, tile + 16 * threadIdx.x);
  for (int i = 0; i < 4; i++) y[4 * threadIdx.x + i] = r[i];"""
    given = np.arange(128, dtype=np.int32)
    got = run(body, given, 128, threads=32).reshape(32, 4)
    assert got.tolist() == given.reshape(4, 32).T.tolist()


def test_floats_saturate_as_on_the_device():
    body = """const float f = eq_bits_float(x[threadIdx.x]);
  y[threadIdx.x] = threadIdx.x < 32 ? __float2int_rn(f) : __float2int_rz(f);"""
    floats = np.resize(np.float32([np.nan, 3e9, -3e9, 2.5, 3.5, -1.5, 1.7]), 64).astype(np.float32)
    got = run(body, floats.view(np.int32), 64)
    lowest, highest = -(2**31), 2**31 - 1
    assert got[:7].tolist() == [0, highest, lowest, 2, 4, -2, 2]
    truncated = dict(zip(floats[32:39].tolist(), got[32:39].tolist(), strict=True))
    assert truncated[1.7000000476837158] == 1


FAULTS = {
    "a wild address": ("y[64 + 64 * threadIdx.x] = 1;", "an illegal address at .* of output0"),
    "a read past the end": ("y[0] = x[64 + threadIdx.x * 64];", "of input0, which has 256"),
    "a write to an input": ("((int*)x)[threadIdx.x] = 1;", "an illegal address at .* of input0"),
    "shared memory's end": (
        "EQ_SMEM(tile, 64); ((int*)tile)[threadIdx.x] = 1;",
        "an illegal address",
    ),
    "an odd address": ("y[0] = *(const int*)((const char*)x + 1);", "not aligned to its size"),
    "an odd vector": ("eq_st4(y + 1, eq_ldg4(x));", "a store at an address not aligned"),
    "a local array's end": (
        "int a[4] = {1, 2, 3, 4}; y[0] = a[x[threadIdx.x]];",
        r"(?s)an index outside its array in line .*int a\[4\]",
    ),
    "a divergent barrier": (
        "if (threadIdx.x < 40) __syncthreads(); else while (*(volatile int*)y) __syncwarp();",
        "deadlock: 64 of 64 threads still live",
    ),
    "a lane that left": (
        "if (threadIdx.x == 7) return; eq_shfl_xor(1, 1);",
        "a thread ends while its warp waits in shfl|31 lanes left of 32",
    ),
    "lanes at two collectives": (
        "if (threadIdx.x % 2) eq_syncwarp(); else y[threadIdx.x] = eq_shfl_xor(1, 1);",
        "other lanes of the warp are at",
    ),
    "a copy nobody waits for": (
        "EQ_SMEM(tile, 16); if (!threadIdx.x) eq_cp_async<16>(tile, x);",
        "cp.async that nobody waited for",
    ),
    "too much shared memory": ("EQ_SMEM(tile, 50000); y[0] = tile[0];", "49152 is the limit"),
    "no C++": ("y[0] = nothing;", "g\\+\\+ refuses the source"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_a_fault(fault):
    body, message = FAULTS[fault]
    with pytest.raises(EmulatorFault, match=message):
        run(body, NUMBERS, 64)


def test_a_write_between_the_end_and_the_guard_page_is_a_fault():
    given = np.arange(60, dtype=np.int32)
    with pytest.raises(MachineFault, match="writes byte 240 of output0, which has 240"):
        run("y[threadIdx.x] = 1;", given, 60)


def test_scratch_that_is_left_nonzero_is_a_fault():
    with pytest.raises(MachineFault, match="leaves scratch byte 4 of 16 nonzero"):
        run("y[1] = 1;", NUMBERS, 64, pointers="int* y", places=(SCRATCH,))


def test_another_number_of_pointers_is_a_fault():
    with pytest.raises(EmulatorFault, match="the kernel takes 2 pointers, not 1"):
        run("y[0] = 0;", NUMBERS, 64, places=(INPUT,))


def test_uninitialized_memory_is_never_zero():
    body = """EQ_SMEM(tile, 64);
  int local;
  y[threadIdx.x] = threadIdx.x ? *(volatile int*)&local : ((volatile int*)tile)[3];"""
    assert 0 not in run(body, NUMBERS, 64)


def test_dynamic_shared_memory_has_the_launch_s_size():
    body = "EQ_DYNAMIC_SMEM(tile); ((int*)tile)[threadIdx.x] = 1; y[0] = ((int*)tile)[0];"
    assert run(body, NUMBERS, 64, dynamic=256)[0] == 1
    with pytest.raises(EmulatorFault, match="an illegal address"):
        run(body, NUMBERS, 64, dynamic=128)


@pytest.mark.parametrize(
    ("threads", "dynamic", "grid", "message"),
    [
        (64, 168 << 10, (1, 1, 1), "takes 172032 bytes of shared memory; sm_87 has 166912"),
        (1056, 0, (1, 1, 1), "blocks of 1056 threads"),
        (64, 0, (1, 65536, 1), "grid of"),
    ],
)
def test_what_the_target_s_driver_would_refuse_is_a_fault(threads, dynamic, grid, message):
    kernel = Kernel("lookup", (), threads, dynamic)
    with (
        machine_of("y[0] = 0;", NUMBERS, 64) as machine,
        pytest.raises(MachineFault, match=message),
    ):
        machine.launch(Launch(kernel, grid, (INPUT, OUTPUT), "probe"))


def test_the_emulator_lives_on_after_a_fault():
    with pytest.raises(EmulatorFault):
        run("*(int*)0 = 1;", NUMBERS, 64)
    assert run(REVERSED, NUMBERS, 64)[0] == 63
