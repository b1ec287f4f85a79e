"""The op table and whole models on the GPU -> rows that say whether each bit is the CPU's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.gpu_bench.children import Answer, Clock, ask

ROWS_A_CHILD = 40
LIMIT_S = 240.0  # of a child


def check_op_table(names: Sequence[str], clock: Clock) -> list[Answer]:
    """Check the rows some at a time; where a child dies, its rows are halved to find the one."""
    rows: list[Answer] = []
    for start in range(0, len(names), ROWS_A_CHILD):
        rows += _check_rows(names[start : start + ROWS_A_CHILD], clock)
    return rows


def _check_rows(names: Sequence[str], clock: Clock) -> list[Answer]:
    answer = ask("op table", {"rows": list(names)}, clock, LIMIT_S)
    if answer["status"] == "ok":
        found: list[Answer] = answer["rows"]
        return found
    if answer["status"] == "failed" and len(names) > 1:
        half = len(names) // 2
        return _check_rows(names[:half], clock) + _check_rows(names[half:], clock)
    return [{"name": n, "status": answer["status"], "reason": answer["reason"]} for n in names]


def check_models(models: Sequence[tuple[str, Path]], clock: Clock) -> list[Answer]:
    """Check each model in a child of its own."""
    return [
        {"name": name, **ask("bits", {"model": str(path)}, clock, LIMIT_S)} for name, path in models
    ]


def device(clock: Clock) -> dict[str, Any]:
    """Return what the GPU is, or why there is none."""
    return ask("device", {}, clock, LIMIT_S)
