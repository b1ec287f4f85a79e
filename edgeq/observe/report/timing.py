"""Latency, and the stages of a build -> where time goes, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.observe.charts.rows import Timed, dots_picture, latency_picture, stages_picture
from edgeq.observe.report.markup import dim, figure, formatted, is_number, table
from edgeq.observe.report.parts import ReportParts
from edgeq.observe.report.verdict import engine_name

COLUMNS = ("p50_ms", "p90_ms", "p99_ms")
WORDS = {
    "read": "checking the model, dividing the samples",
    "calibrate": "a histogram of every tensor",
    "quantize": "writing INT8 models",
    "select": "measuring which ranges serve best",
    "refine": "bias correction, equalization, rounding",
    "sensitivity": "which ops to keep float",
    "compile": "compiling the GPU's kernels",
    "tune": "timing the GPU's kernels",
    "engine": "loading the engine",
    "verify": "the gate, on held-out samples",
    "latency": "timing float against INT8",
    "explain": "where the error enters",
}


def latency_section(parts: ReportParts) -> str:
    """Return how long one inference takes, float against INT8."""
    if not parts.latency:
        text = "Not in this bundle: see"
        return f'<p class="dim">{text} <code>edgeq bench</code>.</p>'
    timed = [row for row in map(_timed(parts.manifest.engine), parts.latency) if row is not None]
    drawn = figure(latency_picture(timed), "p50 as a bar, its tail up to p90") if timed else ""
    rows = [
        (
            engine_name(str(row.get("engine"))),
            *(formatted(row.get(key), ".3f") for key in COLUMNS),
            formatted(row.get("runs"), ","),
        )
        for row in parts.latency
    ]
    figures = table(("engine", "p50 ms", "p90 ms", "p99 ms", "runs"), rows)
    elsewhere = "proven_by" in parts.manifest.details
    note = dim("Measured where it was built, not on the box that it is for.") if elsewhere else ""
    return f'<div class="pair">{drawn}{figures}</div>{note}'


def _timed(ours: str) -> Any:
    def timed(row: Mapping[str, Any]) -> Timed | None:
        values = [row.get(key) for key in COLUMNS]
        if not all(is_number(value) for value in values):
            return None
        p50, p90, p99 = (float(value) for value in values if value is not None)
        kind = str(row.get("engine"))
        words = f"{p50:.3g} ms, p90 {p90:.3g}, p99 {p99:.3g}"
        return Timed(engine_name(kind), p50, max(p50, p90), words, kind == ours)

    return timed


def refinements_picture(parts: ReportParts) -> str:
    """Return what each refinement that was tried is worth, "" where none was."""
    tried = parts.record.refinements
    if len(tried) < 2:
        return ""
    kept = "+".join(parts.manifest.refined) or "none"
    rows = [
        (name.replace("_", " ").replace("+", " + "), db, name == kept) for name, db in tried.items()
    ]
    drawn = dots_picture(rows, "SQNR of the outputs by each refinement", "dB")
    return figure(drawn, "Refinements tried: SQNR of the outputs, on samples kept for the choice")


def stages_section(parts: ReportParts) -> str:
    """Return where the build's time went."""
    stages = parts.record.stages
    if not stages:
        return dim("Not recorded: this bundle has no build.json.")
    rows = [(name, seconds, WORDS.get(name, "")) for name, seconds in stages.items()]
    drawn = stages_picture(rows)
    total = sum(stages.values())
    return figure(drawn, f"{total:.1f} s, from the model's first byte to this page")
