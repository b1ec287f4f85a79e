"""Rows -> text: one table for each workload and concurrency."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from tools.columns import aligned, shown
from tools.serve_bench.rounds import Row
from tools.serve_bench.servers import BARE, BOUND, MLSERVER
from tools.serve_bench.statistics import Spread, paired_difference, paired_ratio, spread

HEADER = ("server, client", "req/s", "(range)", "p50 ms", "(range)", "p99 ms", "(range)",
          "x MLServer", "p50 / bound", "p50 - bare ms", "MiB", "")  # fmt: skip
BOUND_CLIENT = "binary, TCP"
REASON_SHOWN = 110


def best_mlserver(rows: Iterable[Row]) -> Row | None:
    """Return the row with the most requests a second of MLServer with a model, not the echo."""
    own = [row for row in rows if row.is_measured and row.server.startswith(MLSERVER)]
    return max(own, key=lambda row: spread(row.rates).median, default=None)


def _row_of(rows: Iterable[Row], server: str, client: str = "") -> Row | None:
    return next((row for row in rows if row.is_measured and row.server == server
                 and client in ("", row.client)), None)  # fmt: skip


def comparisons(row: Row, group: Sequence[Row]) -> dict[str, float | None]:
    """Return the row beside MLServer's best, the bound and the bare interpreter, round by round."""
    best, bound = best_mlserver(group), _row_of(group, BOUND, BOUND_CLIENT)
    bare = _row_of(group, BARE)
    return {
        "rate_to_mlserver": paired_ratio(row.rates, best.rates) if best else None,
        "p50_to_bound": paired_ratio(row.p50s_ms, bound.p50s_ms) if bound else None,
        "p50_minus_bare_ms": paired_difference(row.p50s_ms, bare.p50s_ms) if bare else None,
    }


def cells(row: Row, group: Sequence[Row]) -> tuple[str, ...]:
    """Return a row's figures as text."""
    name = f"{row.server}, {row.client}"
    if not row.is_measured:
        return (name, *[""] * (len(HEADER) - 2), row.reason[:REASON_SHOWN])
    rate, p50, p99 = spread(row.rates), spread(row.p50s_ms), spread(row.p99s_ms)
    beside = comparisons(row, group)
    is_server = row.server != BARE
    return (
        name, f"{rate.median:.0f}", _range(rate, 0), f"{p50.median:.3f}", _range(p50, 3),
        f"{p99.median:.2f}", _range(p99, 2), shown(beside["rate_to_mlserver"], 1),
        shown(beside["p50_to_bound"], 2),
        shown(beside["p50_minus_bare_ms"], 3) if is_server else "",
        shown(row.rss_bytes / (1 << 20), 0) if is_server else "",
        f"{row.errors} failed" if row.errors else "",
    )  # fmt: skip


def _range(values: Spread, places: int) -> str:
    return f"({values.low:.{places}f}-{values.high:.{places}f})"


def table_of(rows: Sequence[Row]) -> str:
    """Return all rows."""
    parts = []
    for (workload, concurrency), members in groupby(
        rows, key=lambda row: (row.workload, row.concurrency)
    ):
        group = list(members)
        best = best_mlserver(group)
        title = f"{workload}, {concurrency} connection{'s' if concurrency > 1 else ''}"
        note = f"; MLServer's best: {best.server}, {best.client}" if best else ""
        table = aligned(HEADER, [cells(row, group) for row in group])
        parts.append(f"{title}{note}\n{table}")
    return "\n\n".join(parts)


def json_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows with their medians and comparisons, for a file."""
    told = []
    for _, members in groupby(rows, key=lambda row: (row.workload, row.concurrency)):
        group = list(members)
        for row in group:
            figures: dict[str, Any] = asdict(row)
            if row.is_measured:
                figures["rate"] = asdict(spread(row.rates))
                figures["p50_ms"] = asdict(spread(row.p50s_ms))
                figures["p99_ms"] = asdict(spread(row.p99s_ms))
                figures.update(comparisons(row, group))
            told.append(json.loads(json.dumps(figures)))
    return told
