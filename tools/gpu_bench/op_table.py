"""The rows of the op table -> how many bytes of the GPU's answers differ from the CPU engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.errors import EdgeqError, EngineError
from edgeq.quantize.convert import quantize
from tests.engines.cases import CASES
from tests.engines.op_case import OpCase
from tests.quantize.minmax import minmax_table
from tools.gpu_bench import ours

NAMES = tuple(case.name for case in CASES)
NOTHING_TO_DO = "the GPU has nothing to do"


def int8_content(case: OpCase) -> bytes:
    """Return the INT8 model of a row."""
    model = case.model()
    return quantize(model, minmax_table(model, case.samples())).model.to_bytes()


def check(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row's bits each, or why there are none."""
    cases = {case.name: case for case in CASES}
    with ours.held_gpu():
        return [{"name": name, **_checked(cases[name])} for name in names]


def _checked(case: OpCase) -> dict[str, Any]:
    try:
        return {"status": "ok", **ours.check(int8_content(case))}
    except EngineError as error:
        on_cpu = error.message.startswith(NOTHING_TO_DO)
        return {"status": "on the CPU" if on_cpu else "failed", "reason": error.message}
    except (EdgeqError, RuntimeError) as error:
        return {"status": "failed", "reason": str(error)}
