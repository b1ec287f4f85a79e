"""Figures -> text: a table for each question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from tools.columns import aligned, shown
from tools.drift_bench.cost import Costs
from tools.drift_bench.held import HeldAlarms
from tools.drift_bench.peers import Verdicts
from tools.drift_bench.simulate import Detection, FalseAlarms

NEVER = "never"


def false_alarm_table(rows: Sequence[FalseAlarms]) -> str:
    """Return how often windows without drift alarm."""
    header = (
        "model",
        "reference",
        "window",
        "windows",
        "alarms %",
        "+- SE",
        "any PSI %",
        "+- SE",
        "",
    )
    cells = [
        (row.case, str(row.reference_frames), str(row.window), str(row.windows),
         shown(row.ratio, 2, scale=100), shown(row.error, 2, scale=100),
         shown(row.bare_ratio, 2, scale=100), shown(row.bare_error, 2, scale=100), "")
        for row in rows
    ]  # fmt: skip
    return f"False alarms without drift\n{aligned(header, cells)}"


def detection_table(rows: Sequence[Detection]) -> str:
    """Return the frames of drift until the alarm."""
    header = ("model", "reference", "window", "runs", "found %", "median", "p90", "drift: reason")
    cells = [
        (row.case, str(row.reference_frames), str(row.window), str(row.runs),
         shown(row.found_ratio, 0, scale=100), shown(row.median, 0) or NEVER,
         shown(row.p90, 0) or NEVER, f"{row.drift}: {row.reason}")
        for row in rows
    ]  # fmt: skip
    return f"Frames of drift until it is found\n{aligned(header, cells)}"


def held_table(rows: Sequence[HeldAlarms]) -> str:
    """Return the false alarms of frames that hang together."""
    header = (
        "model",
        "reference",
        "window",
        "shown",
        "windows",
        "alarms %",
        "+- SE",
        "plain %",
        "",
    )
    cells = [
        (row.case, str(row.reference_frames), str(row.window), f"{row.times} times",
         str(row.windows), shown(row.ratio, 1, scale=100), shown(row.error, 1, scale=100),
         shown(row.uncorrected_ratio, 1, scale=100), "")
        for row in rows
    ]  # fmt: skip
    return (
        f"False alarms where each scene is shown several times in a row\n{aligned(header, cells)}"
    )


def peers_table(rows: Sequence[Verdicts]) -> str:
    """Return what the tools say of the same windows."""
    header = ("tool", "any column %", "half of them %", "windows: figures of the first")
    cells = [
        (row.tool, shown(row.any_column, 0, scale=100), shown(row.half_of_columns, 0, scale=100),
         f"{row.windows}: " + ", ".join(f"{n} {v:.4g}" for n, v in row.figures.items()))
        for row in rows
    ]  # fmt: skip
    return f"Drift, as the tools see it in the same windows\n{aligned(header, cells)}"


def cost_table(costs: Costs) -> str:
    """Return the times."""
    cells = [(name, shown(value, 3)) for name, value in asdict(costs).items()]
    return f"Cost\n{aligned(('', 'CPU time'), cells)}"
