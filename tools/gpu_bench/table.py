"""Rows -> text: whole nets and layers of each model, the checks, what was absent and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tools.columns import aligned, shown
from tools.gpu_bench.bench import LayerRow, NetRow, Results

NET_HEADER = ("batch", "contestant", "p50 ms", "p99 ms", "GPU us", "to edgeq", "differ", "")
LAYER_HEADER = ("layer", "us", "est us", "TOPS", "%", "GB/s", "%", "roof %", "cuDNN us", "rate",
                "int_mm us", "kernel")  # fmt: skip
LAYERS_SHOWN = 12  # of a net, the longest ones: the JSON has all
REASON_SHOWN = 100
LABEL_SHOWN = 44
OURS, BEST = "edgeq", "graph"


def table_of(results: Results) -> str:
    """Return all rows, model after model."""
    parts = []
    for model, group in groupby(sorted(results.nets, key=_model), key=_model):
        rows = list(group)
        text = aligned(NET_HEADER, [_net_cells(row, rows) for row in rows])
        parts.append(f"{model}\n{text}")
        parts += _layers_of(model, results.layers)
    return "\n\n".join(parts)


def _model(row: NetRow) -> str:
    return row.model


def _net_cells(row: NetRow, rows: Sequence[NetRow]) -> tuple[str, ...]:
    remark = "" if row.status == "ok" else f"{row.status}: {row.reason}"
    return (
        str(row.batch),
        f"{row.contestant} {row.way}".strip(),
        shown(row.p50_ms, 3),
        shown(row.p99_ms, 3),
        shown(row.gpu_us, 1),
        shown(_ratio(row, rows), 2),
        "" if row.differing is None else str(row.differing),
        remark[:REASON_SHOWN],
    )


def _ratio(row: NetRow, rows: Iterable[NetRow]) -> float | None:
    """Return how many times as long as the engine's graph a contestant takes."""
    ours = next(
        (r for r in rows if (r.contestant, r.way, r.batch) == (OURS, BEST, row.batch)), None
    )
    if ours is None or not ours.p50_ms or row.p50_ms is None:
        return None
    return row.p50_ms / ours.p50_ms


def _layers_of(model: str, rows: Sequence[LayerRow]) -> list[str]:
    own = [row for row in rows if row.model == model]
    parts = []
    for batch, group in groupby(own, key=lambda row: row.batch):
        found = list(group)
        longest = sorted(found, key=lambda row: -row.rate["microseconds"])[:LAYERS_SHOWN]
        text = aligned(LAYER_HEADER, map(_layer_cells, longest))
        whole = sum(row.rate["microseconds"] for row in found)
        parts.append(
            f"{model}, batch {batch}: the {len(longest)} longest of {len(found)} steps, "
            f"{whole:.1f} us together\n{text}"
        )
    return parts


def _layer_cells(row: LayerRow) -> tuple[str, ...]:
    rate = row.rate
    label = f"{rate['label']} {row.extents}".strip()
    return (
        label[:LABEL_SHOWN],
        shown(rate["microseconds"], 2),
        shown(rate["estimated"], 1),
        shown(rate["tops"], 2),
        shown(rate["tops_share"], 1, scale=100),
        shown(rate["gigabytes_per_s"], 0),
        shown(rate["bandwidth_share"], 1, scale=100),
        shown(rate["roofline_share"], 1, scale=100),
        shown(row.others.get("cuDNN int8", {}).get("us"), 2),
        shown(row.ratio("cuDNN int8"), 2),
        shown(row.others.get("torch._int_mm", {}).get("us"), 2),
        rate["choice"],
    )


def checks_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return one line for what agrees, and one for each row that does not."""
    counts: dict[str, int] = {}
    lines = []
    for row in rows:
        verdict = verdict_of(row)
        counts[verdict] = counts.get(verdict, 0) + 1
        if verdict == "differs":
            bits = row["bits"]
            lines.append(f"  {row['name']}: {bits['differing']} of {bits['values']} values differ, "
                         f"by {bits['largest']:g} at most")  # fmt: skip
        elif verdict not in ("bit for bit", "on the CPU"):
            lines.append(f"  {row['name']}: {verdict}: {row.get('reason', '')}"[:REASON_SHOWN])
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return "\n".join([summary, *lines])


def verdict_of(row: dict[str, Any]) -> str:
    """Return 'bit for bit', 'differs', or the status of a row without figures."""
    if row["status"] != "ok":
        return str(row["status"])
    return "differs" if row["bits"]["differing"] else "bit for bit"
