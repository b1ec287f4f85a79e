"""Every row of the op table is lowered, and its formulas give what the CPU engine gives."""

from __future__ import annotations

import pytest

from edgeq.engines.cuda.lowering.partition import partition
from edgeq.engines.cuda.lowering.table import LOWERINGS
from tests.engines.cases import CASES
from tests.engines.cuda.lowered import differing_bytes
from tests.engines.op_case import OpCase
from tests.engines.test_ops import int8_model

STAYS_ON_THE_CPU = {
    "SQUARED_DIFFERENCE": "SQUARED_DIFFERENCE of two values has no kernel",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_gives_the_cpu_engine_s_bytes(case: OpCase) -> None:
    assert differing_bytes(int8_model(case), case.samples(3)) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_row_is_on_the_gpu_or_says_why_not(case: OpCase) -> None:
    parts = partition(int8_model(case))
    reasons = {reason.op: reason.reason for reason in parts.reasons}
    if case.name in STAYS_ON_THE_CPU:
        assert reasons[case.op] == STAYS_ON_THE_CPU[case.name]
    elif case.op in LOWERINGS:
        assert parts.is_whole, reasons
    else:
        assert reasons[case.op] == f"{case.op} has no kernel"


def test_most_of_the_op_table_is_lowered() -> None:
    left_out = {case.op for case in CASES} - set(LOWERINGS)
    assert left_out == {
        "REDUCE_MAX", "REDUCE_MIN", "LOG_SOFTMAX", "L2_NORMALIZATION", "GATHER_ND",
        "SELECT", "SELECT_V2", "ARG_MAX", "ARG_MIN",
    }  # fmt: skip
