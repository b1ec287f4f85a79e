"""Rows -> text: one table for each model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tools.calibration_bench.bench import Row
from tools.columns import aligned, shown

HEADER = ("tool", "seconds", "CPU s", "MiB", "over start", "float ops", "agree %", "SQNR dB",
          "metric", "- float", "+- SE", "")  # fmt: skip
REASON_SHOWN = 90


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's figures as text."""
    remark = "" if row.status == "ok" else f"{row.status}: {row.reason}"
    return (
        f"{row.tool} {row.setting}".strip(),
        shown(row.seconds, 2),
        shown(row.cpu_s, 2),
        shown(row.peak_rss_mib, 0),
        shown(row.above_mib, 0),
        "" if row.weighted_ops is None else f"{row.float_ops}/{row.weighted_ops}",
        shown(row.agreement, 2, scale=100),
        shown(row.sqnr_db, 2),
        shown(row.value, 4),
        shown(row.delta, 4, sign=True),
        shown(row.delta_se, 4),
        (remark or "; ".join(row.notes))[:REASON_SHOWN],
    )


def table_of(rows: Sequence[Row]) -> str:
    """Return all rows, model after model."""
    parts = []
    for model, group in groupby(rows, key=lambda row: row.model):
        own = list(group)
        metric = next((row.metric for row in own if row.metric), "no labels")
        parts.append(f"{model} ({metric})\n{aligned(HEADER, map(cells, own))}")
    return "\n\n".join(parts)
