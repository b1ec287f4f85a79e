"""The interpreter of PTX: as the device computes, and a clear fault where no kernel may go."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.engines.cuda.compiling.render import template
from edgeq.engines.cuda.launch import Kernel, Launch, Pointer
from edgeq.engines.cuda.targets import Target
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine, Machine
from tests.engines.cuda.ptx.parser import PtxFault, parse
from tests.engines.cuda.spaces import Contents, MachineFault

ORIN, NANO = Target(87), Target(53)
INPUT, OUTPUT, SCRATCH = Pointer("input"), Pointer("output"), Pointer("scratch")
NUMBERS = np.arange(64, dtype=np.int32)
MACHINES = {"emulated": EmulatedMachine, "interpreted": InterpretedMachine}


def run(
    body: str,
    given: np.ndarray,
    outputs: int,
    *,
    machine: str = "interpreted",
    target: Target = ORIN,
    threads: int = 64,
    blocks: int = 1,
    dynamic: int = 0,
    pointers: str = "const int* __restrict__ x, int* __restrict__ y",
    places: tuple[Pointer, ...] = (INPUT, OUTPUT),
) -> np.ndarray:
    """Run `body` with x an input and y an output of so many ints."""
    kernel = f"EQ_KERNEL(EQ_THREADS, 1) void probe({pointers}) {{\n{body}\n}}\nEQ_EXPORT(probe)\n"
    source = "\n".join([f"#define EQ_THREADS {threads}", template("device.cuh"), kernel])
    contents = Contents(
        np.zeros(0, np.uint8),
        np.zeros(0, np.uint8),
        16,
        (given.view(np.uint8),),
        (np.full(4 * outputs, 0xEE, np.uint8),),
    )
    made: Machine = MACHINES[machine](contents, target, edit=lambda _: source)
    try:
        template_name = "lookup"  # any: `edit` replaces the whole text
        kernel_launched = Kernel(template_name, (), threads, dynamic)
        made.launch(Launch(kernel_launched, (blocks, 1, 1), places, "probe"))
        return made.memory("output").view(np.int32).copy()
    finally:
        made.close()


# What C says of integers and floats, once through g++ and once through NVRTC and the interpreter.
EXPRESSIONS = (
    "a + b",
    "a - b * 7",
    "a * b + c",
    "(int)(((long long)a * b) >> 32)",
    "(int)__umulhi(a, b)",
    "a / (b | 1)",
    "a % (b | 1)",
    "(int)((u32)a / (u32)(b | 1))",
    "(int)((u32)a % 1000u)",
    "a / 7 + a % 7",
    "a >> (b & 31)",
    "(int)((u32)a >> (b & 31))",
    "a << (b & 31)",
    "(int)(((long long)a << 7 | (u32)b) >> (c & 31))",
    "a & b | ~c ^ a",
    "min(a, b) - max(b, c)",
    "(int)min((u32)a, (u32)b)",
    "abs(a)",
    "a < b ? c : -c",
    "(u32)a < (u32)b && b != c || a == c",
    "(int)(i8)a + (int)(i8)(b >> 8) * (int)(short)c",
    "(int)(u8)(a >> 24) - (int)(unsigned short)b",
    "eq_dp4a(a, b, c)",
    "(int)eq_prmt(a, b, c & 0x7777)",
    "(int)eq_prmt(a, b, 0xc3a1)",
    "(int)__funnelshift_r(a, b, c)",
    "__popc(a) + __clz(b) * 64",
    "__float2int_rn(__fmul_rn(__int2float_rn(a), 1e-4f))",
    "__float2int_rz(__fadd_rn((float)b, 0.5f))",
    "(int)floorf((float)a * 1e-3f)",
    "eq_float_bits(__fmul_rn(eq_bits_float(a & 0x3fffffff), eq_bits_float(b & 0x3fffffff)))",
    "eq_float_bits((float)a / (float)(b | 1))",
    "eq_float_bits(fmaf((float)a, 3.1415927f, (float)b))",
    "eq_float_bits(fminf(fmaxf((float)a, -1e8f), 1e8f))",
    "eq_requant(a, 3e-7f, 5, -128, 127)",
    "eq_rint((float)(a >> 12) * 0.37f)",
    "(int)eq_pack4(a, b, c, a >> 3)",
)


@pytest.mark.parametrize("target", [NANO, ORIN], ids=lambda target: target.name)
def test_the_interpreter_computes_what_c_says(target):
    random = np.random.default_rng(3)
    given = random.integers(-(2**31), 2**31, 3 * 64).astype(np.int32)
    given[: 3 * 16] >>= random.integers(0, 31, 3 * 16)
    count = len(EXPRESSIONS)
    body = (
        "const int a = x[3 * threadIdx.x], b = x[3 * threadIdx.x + 1], c = x[3 * threadIdx.x + 2];"
    )
    lines = [f"y[threadIdx.x * {count} + {i}] = {e};" for i, e in enumerate(EXPRESSIONS)]
    results = [
        run("\n".join([body, *lines]), given, 64 * count, machine=machine, target=target)
        for machine in MACHINES
    ]
    expected, got = (result.reshape(64, count) for result in results)
    wrong = [e for i, e in enumerate(EXPRESSIONS) if (expected[:, i] != got[:, i]).any()]
    assert not wrong


# Whole programs: control flow, memory, warps.
PROGRAMS = {
    "loops that lanes leave at different times": """int n = x[threadIdx.x] & 15, sum = 0;
  for (int i = 0; i < n; i++) sum += i % 3 ? x[i] : -i;
  y[threadIdx.x] = sum;""",
    "an array indexed late": """int held[8];
  for (int i = 0; i < 8; i++) held[i] = x[(threadIdx.x + i) & 63];
  y[threadIdx.x] = held[x[threadIdx.x] & 7];""",
    "a switch": """int v = x[threadIdx.x];
  switch (v % 7) {
    case 0: v += 1; break;
    case 1: v *= 3; break;
    case 2: v -= 9; break;
    case 3: v ^= 5; break;
    case 4: v <<= 2; break;
    case 5: v = -v; break;
    default: v = y[threadIdx.x];
  }
  y[threadIdx.x] = v;""",
    "an exchange through shared memory": """EQ_SMEM(raw, 256);
  ((int*)raw)[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = ((int*)raw)[63 - threadIdx.x];""",
    "an exchange within a warp": """EQ_SMEM(raw, 256);
  ((int*)raw)[threadIdx.x] = x[threadIdx.x];
  eq_syncwarp();
  y[threadIdx.x] = ((int*)raw)[threadIdx.x ^ 9];""",
    "shuffles": """int v = x[threadIdx.x];
  for (int d = 16; d; d >>= 1) v += eq_shfl_xor(v, d);
  v += __shfl_down_sync(~0u, v + (int)threadIdx.x, 3) + __shfl_sync(~0u, v, threadIdx.x + 5);
  y[threadIdx.x] = v + __shfl_up_sync(~0u, v * (int)threadIdx.x, 2);""",
    "votes": """int v = x[threadIdx.x];
  y[threadIdx.x] = __ballot_sync(~0u, v & 4) + __any_sync(~0u, v > 60) + __all_sync(~0u, v < 9);""",
    "bytes and vectors": """int4 four = ((const int4*)x)[threadIdx.x & 15];
  short2 two = ((const short2*)x)[threadIdx.x];
  ((i8*)(y + threadIdx.x))[3] = (i8)(four.x + four.w);
  ((i8*)(y + threadIdx.x))[2] = (i8)(two.x - two.y);
  ((short*)(y + threadIdx.x))[0] = (short)(four.y * four.z);""",
    "copies in two groups": """EQ_SMEM(raw, 512);
  if (threadIdx.x < 16) eq_cp_async<16>(raw + 16 * threadIdx.x, x + 4 * threadIdx.x);
  eq_cp_commit();
  if (threadIdx.x < 16) eq_cp_async<16>(raw + 256 + 16 * threadIdx.x, x + 60 - 4 * threadIdx.x);
  eq_cp_commit();
  eq_cp_wait<1>();
  __syncthreads();
  int v = ((int*)raw)[threadIdx.x];
  eq_cp_wait<0>();
  __syncthreads();
  y[threadIdx.x] = v * 100 + ((int*)raw)[64 + threadIdx.x];""",
    "m16n8k32": """const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  u32 a[4] = {(u32)x[g], (u32)x[g + 8 + t], (u32)x[g + 4 * t], (u32)x[t + 40]};
  int c[4] = {1, 2, (int)threadIdx.x, -4};
  eq_mma_16832(c, a, x[g * 3 + t], x[g * 7 + t]);
  y[threadIdx.x] = c[0] + 3 * c[1] + 7 * c[2] + 11 * c[3];""",
    "m8n8k16": """const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  int c[2] = {(int)threadIdx.x, -4};
  eq_mma_8816(c[0], c[1], x[g * 3 + t], x[g * 7 + t]);
  y[threadIdx.x] = c[0] + 3 * c[1];""",
    "ldmatrix": """EQ_SMEM(raw, 1024);
  ((int4*)raw)[threadIdx.x] = eq_ldg4(x + 4 * (threadIdx.x & 15));
  eq_syncwarp();
  u32 r[4];
  eq_ldmatrix_x4(r, raw + 512 * (threadIdx.x / 32) + 16 * (threadIdx.x * 5 % 32));
  y[threadIdx.x] = r[0] + 3 * r[1] + 5 * r[2] + 7 * r[3];""",
    "wmma": """EQ_SMEM(raw, 1024 + 1024 + 2048);
  for (int i = threadIdx.x; i < 512; i += 64) ((int*)raw)[i] = x[i & 63] * (i + 1);
  __syncthreads();
  const int w = threadIdx.x / 32;
  u32 a[2], b[2];
  int c[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  eq_wmma_load_a(a, raw + 512 * w, 32);
  eq_wmma_load_b(b, raw + 1024 + 256 * w, 16);
  eq_wmma_mma(c, a, b);
  eq_wmma_mma(c, a, b);
  eq_wmma_store_c((int*)(raw + 2048 + 1024 * w), c, 16);
  __syncthreads();
  int sum = 0;
  for (int i = 0; i < 8; i++) sum = sum * 31 + ((int*)(raw + 2048))[threadIdx.x + 64 * i];
  y[threadIdx.x] = sum;""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_interpreter_does_what_the_emulator_does(name):
    given = np.random.default_rng(5).integers(0, 100, 64).astype(np.int32)
    if name in ("m16n8k32", "m8n8k16", "wmma", "ldmatrix"):
        given *= 0x01F2C35
    expected, got = (run(PROGRAMS[name], given, 64, machine=machine) for machine in MACHINES)
    assert got.tolist() == expected.tolist()


def test_blocks_count_themselves_and_leave_the_counter_zero():
    body = """int before = eq_atomic_add(counter, 1);
  y[blockIdx.x * 16 + threadIdx.x] = before;
  eq_threadfence();
  if (before == 63) eq_store_shared_by_blocks(counter, 0);"""
    counted = run(
        body,
        NUMBERS,
        64,
        threads=16,
        blocks=4,
        pointers="int* counter, int* y",
        places=(SCRATCH, OUTPUT),
    )
    assert sorted(counted.tolist()) == list(range(64))


EXCHANGE = PROGRAMS["an exchange through shared memory"]
FAULTS = {
    "a missing barrier": (
        EXCHANGE.replace("__syncthreads();", ""),
        r"shared-memory race \(read after a write without a barrier\) at byte",
    ),
    "a missing second barrier": (
        f"{EXCHANGE}\n((int*)raw)[threadIdx.x] = 0; y[0] = ((volatile int*)raw)[threadIdx.x];",
        r"shared-memory race \(write after a read without a barrier\)",
    ),
    "a missing __syncwarp": (
        PROGRAMS["an exchange within a warp"].replace("eq_syncwarp();", ""),
        "shared-memory race",
    ),
    "a __syncwarp between warps": (
        EXCHANGE.replace("__syncthreads();", "eq_syncwarp();"),
        "shared-memory race",
    ),
    "a missing wait": (
        PROGRAMS["copies in two groups"].replace("eq_cp_wait<1>();", ""),
        "while cp.async into it is under way",
    ),
    "a copy over what is read": (
        """EQ_SMEM(raw, 1024);
  ((int*)raw)[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  int v = ((int*)raw)[63 - threadIdx.x];
  if (threadIdx.x < 16) eq_cp_async<16>(raw + 16 * threadIdx.x, x + 4 * threadIdx.x);
  eq_cp_commit(); eq_cp_wait<0>(); __syncthreads();
  y[threadIdx.x] = v + ((int*)raw)[threadIdx.x];""",
        r"shared-memory race \(cp.async after a read",
    ),
    "a copy nobody waits for": (
        "EQ_SMEM(raw, 16); if (!threadIdx.x) eq_cp_async<16>(raw, x); y[threadIdx.x] = 1;",
        "cp.async that nobody waited for",
    ),
    "two writers": (
        "EQ_SMEM(raw, 16); ((volatile int*)raw)[0] = threadIdx.x; y[threadIdx.x] = 1;",
        "two threads write different values",
    ),
    "a write past the end": ("y[64 + threadIdx.x] = 1;", "at byte 256 of output0, which has 256"),
    "a read before the start": ("y[0] = ((volatile int*)x)[-1];", "at byte -4 of input0"),
    "a write to an input": ("((volatile int*)x)[0] = 1;", "a write to input0"),
    "an odd address": ("y[0] = *(const int*)((const char*)x + 2);", "not aligned to it"),
    "shared memory's end": (
        "EQ_SMEM(raw, 128); ((volatile int*)raw)[threadIdx.x] = 1; y[0] = 1;",
        "of shared memory, which has 128",
    ),
    "a divergent barrier": (
        "if (threadIdx.x < 40) __syncthreads(); y[threadIdx.x] = 1; __syncthreads();",
        "wait at 2 different barriers",
    ),
    "a part of a warp": (
        "if (x[threadIdx.x] < 7) return; y[threadIdx.x] = eq_shfl_xor(1, threadIdx.x & 1);",
        "a part of a warp",
    ),
    "a constant load of what was written": (
        "y[threadIdx.x] = 1; __syncthreads(); y[threadIdx.x] = eq_ldg1(y + (threadIdx.x ^ 1));",
        "ld.global.nc of what the same launch wrote",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_a_fault(fault):
    body, message = FAULTS[fault]
    with pytest.raises(PtxFault, match=message):
        run(body, NUMBERS, 64, pointers="const int* x, int* y")


def test_scratch_that_is_left_nonzero_is_a_fault():
    with pytest.raises(MachineFault, match="leaves scratch byte 4 of 16 nonzero"):
        run("y[1] = 1;", NUMBERS, 64, pointers="int* y", places=(SCRATCH,))


def test_dynamic_shared_memory_has_the_launch_s_size():
    body = """EQ_DYNAMIC_SMEM(raw);
  ((volatile int*)raw)[threadIdx.x] = 1;
  y[threadIdx.x] = ((volatile int*)raw)[threadIdx.x];"""
    assert run(body, NUMBERS, 64, dynamic=256).tolist() == [1] * 64
    with pytest.raises(PtxFault, match="of shared memory, which has 128"):
        run(body, NUMBERS, 64, dynamic=128)


def test_dynamic_shared_memory_lies_behind_static():
    body = """EQ_DYNAMIC_SMEM(dynamic);
  EQ_SMEM(fixed, 256);
  ((int*)dynamic)[threadIdx.x] = x[threadIdx.x];
  ((int*)fixed)[threadIdx.x] = 7;
  __syncthreads();
  y[threadIdx.x] = ((int*)dynamic)[63 - threadIdx.x] + ((int*)fixed)[threadIdx.x ^ 1];"""
    expected = (NUMBERS[::-1] + 7).tolist()
    for machine in MACHINES:
        assert run(body, NUMBERS, 64, dynamic=256, machine=machine).tolist() == expected


def test_what_is_not_understood_is_named():
    with pytest.raises(PtxFault, match="no entry point"):
        parse(".version 8.8\n.target sm_87\n")
    with pytest.raises(PtxFault, match=r"not interpreted: sin\.approx"):
        run("y[threadIdx.x] = (int)__sinf((float)x[threadIdx.x]);", NUMBERS, 64)
