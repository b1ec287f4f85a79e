"""Faults put into the convolutions' kernels on purpose: each must fail the check."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.engines.cuda.convolutions import Case, check
from tests.engines.cuda.machines import EmulatedMachine, InterpretedMachine

SMALL = Case(h=5, w=5, c=32, oc=32, adds=True)
SHALLOW = ("conv_mma 32x32x32 w16x16 s2 k1", "sm_87")
MMA = ("conv_mma 32x32x64 w16x16 s3 k1", "sm_87")
SPLIT = ("conv_mma 32x32x64 w16x16 s3 k2", "sm_87")
NARROW = ("conv_mma_8816 32x32x64 w16x16 s2 k1", "sm_75")
WMMA = ("conv_wmma 64x64x64 w32x32 s2 k1", "sm_72")
DP4A = ("conv_dp4a 32x32x32 t4x4 k1", "sm_61")
INT16 = ("conv_int16 32x32x16 t4x4 k1", "sm_53")
FP32 = ("conv_fp32 32x32x16 t4x4 k1", "sm_53")


@dataclass(frozen=True)
class Mutant:
    """In the kernel of a choice, for a target, `old` becomes `new` wherever it stands."""

    choice: tuple[str, str]
    old: str
    new: str
    case: Case = SMALL
    machine: type[EmulatedMachine | InterpretedMachine] = EmulatedMachine


WAIT = "eq_cp_wait<EQ_STAGES - 2>();\n"
BARRIER = "    __syncthreads();\n"
MUTANTS = {
    "no barrier before a stage is read": Mutant(MMA, WAIT + BARRIER, WAIT),
    "no barrier before a stage is read, interpreted": Mutant(
        MMA, WAIT + BARRIER, WAIT, machine=InterpretedMachine
    ),
    "no wait for a copy": Mutant(MMA, WAIT, ""),
    "no wait for a copy, interpreted": Mutant(MMA, WAIT, "", machine=InterpretedMachine),
    "a wait for one copy too few": Mutant(MMA, WAIT, WAIT.replace("- 2", "- 1")),
    "no barrier before results are stored": Mutant(
        MMA,
        "eq_requantize_tile(results, sums, scales);\n  __syncthreads();",
        "eq_requantize_tile(results, sums, scales);",
    ),
    "a lane reads another pixel": Mutant(MMA, "EQ_WM + (lane & 15)", "EQ_WM + (lane & 7)"),
    "a lane reads the other half of K": Mutant(MMA, "chunk + (lane >> 4))", "chunk)"),
    "a lane holds other channels": Mutant(MMA, "(lane & 3) * 2;", "(lane & 3);"),
    "chunks exchanged otherwise than in the weights": Mutant(
        MMA, "row / (8 / chunks) % chunks", "row % chunks"
    ),
    "a tile one pixel off": Mutant(
        MMA, "m = blockIdx.x * EQ_BM + row,", "m = blockIdx.x * EQ_BM + row + 1,"
    ),
    "a tile one channel off": Mutant(
        MMA, "c = blockIdx.y * EQ_BN + column;", "c = blockIdx.y * EQ_BN + column - 1;"
    ),
    "the next channel's scale": Mutant(
        MMA, "eq_rounded(pair[0], scale.x)", "eq_rounded(pair[0], scale.y)"
    ),
    "the next channel's bias": Mutant(MMA, "four[3] = start.y", "four[3] = start.x"),
    "a sum begun one too high": Mutant(
        SHALLOW, "EQ_SUM_START 0x4B400000", "EQ_SUM_START 0x4B400001", Case(h=9, w=9, kernel=(1, 1))
    ),
    "a row too many inside x": Mutant(MMA, "eq_clamp(size - first,", "eq_clamp(size - first + 1,"),
    "zero where x's zero point belongs": Mutant(
        MMA, "return inside ? window.first + group.offset : outside", "return window.first"
    ),
    "the wrong stage": Mutant(MMA, "read + 1 == EQ_STAGES", "read + 2 == EQ_STAGES"),
    "the last step left out": Mutant(
        MMA, "step = first; step < end;", "step = first + 1; step < end;"
    ),
    "the residual value's factor": Mutant(
        MMA, "other * EQ_ADD_B_FACTOR", "other * EQ_ADD_A_FACTOR"
    ),
    "rounding half up": Mutant(
        SHALLOW,
        "eq_float_bits(__fadd_rn(v, 12582912.0f)) - 0x4B400000",
        "__float2int_rd(__fadd_rn(v, 0.5f))",
        Case(h=17, w=17, kernel=(1, 1), has_ties=True),
    ),
    "the total taken a block too early": Mutant(SPLIT, "!= EQ_SPLITS - 1", "!= EQ_SPLITS - 2"),
    "a counter left behind": Mutant(
        SPLIT, "eq_store_shared_by_blocks(scratch + tile, 0)", "(void)0"
    ),
    "a total left behind": Mutant(
        SPLIT, "eq_store_shared_by_blocks(total + i * EQ_THREADS, 0)", "(void)0"
    ),
    "quarters of a product exchanged": Mutant(
        NARROW, "eq_mma_8816(c[2], c[3], a[1], b0)", "eq_mma_8816(c[2], c[3], a[2], b0)"
    ),
    "no barrier between steps": Mutant(
        NARROW, "    __syncthreads();\n  }\n}", "  }\n}", machine=InterpretedMachine
    ),
    "planes that overlap": Mutant(WMMA, "(EQ_BM * 16 + 32)", "(EQ_BM * 16 - 16)"),
    "a tile of sums in another's place": Mutant(
        WMMA, "* EQ_SUM_PITCH + t %", "* EQ_SUM_PITCH - t %"
    ),
    "no barrier between lanes' steps": Mutant(DP4A, "    __syncthreads();\n  }\n}", "  }\n}"),
    "the same stage twice": Mutant(
        DP4A, "(~step & 1) * EQ_STAGE_BYTES", "(step & 1) * EQ_STAGE_BYTES"
    ),
    "a lane's pixels one off": Mutant(
        DP4A, "EQ_ACROSS * EQ_TM;\n#pragma", "EQ_ACROSS * EQ_TM + 1;\n#pragma"
    ),
    "a scale of another channel": Mutant(
        DP4A, "scales = eq_ldg4(scale + c)", "scales = eq_ldg4(scale + (c ^ 4))"
    ),
    "a byte without its sign": Mutant(INT16, "0xB3A2", "0x43A2"),
    "a float that holds too many products": Mutant(
        FP32,
        "#define EQ_FLUSH_STEPS (1024 / EQ_BK)",
        "#define EQ_FLUSH_STEPS 4096",
        Case(h=1, w=33, c=4096, oc=32, kernel=(1, 1), before=(0, 0), after=(0, 0), is_extreme=True),
    ),
}


@dataclass
class Surgery:
    """Replaces a text, and remembers that it did."""

    mutant: Mutant
    cuts: int = field(default=0)

    def __call__(self, source: str) -> str:
        self.cuts += source.count(self.mutant.old)
        return source.replace(self.mutant.old, self.mutant.new)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    choice, target = mutant.choice
    surgery = Surgery(mutant)
    machine = partial(mutant.machine, edit=surgery)
    with pytest.raises(AssertionError):
        check(
            mutant.case, target, only=choice, placement="pitch16", machine=machine, seeds=(0, 1, 2)
        )
    assert surgery.cuts, "nothing was changed"


@pytest.mark.parametrize(
    "choice", [MMA, SPLIT, NARROW, WMMA, DP4A, INT16, FP32], ids=lambda c: c[0]
)
def test_what_the_mutants_are_made_of_is_sound(choice: tuple[str, str]) -> None:
    name, target = choice
    assert check(SMALL, target, only=name, placement="pitch16", seeds=(0, 1, 2)) == (name,)
