"""The figures of a soak -> text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.columns import aligned

MIB = 1 << 20
SHOWN = 20  # violations


def text_of(told: Mapping[str, Any]) -> str:
    """Return the table of a run."""
    lines = [
        f"{told['seconds']:.0f} s, seed {told['seed']}: {told['steps']} steps",
        f"{told['requests']} requests, the answers of {told['versions_checked']} versions checked",
        f"disk pressure: {told['disk_pressure']}",
        f"{told['lives']} starts, the slowest {told['start_s_max']} s",
        f"slowest status {told['status_s_max']} s",
        _listed("answers", told["answers"]),
        _listed("steps", told["actions"]),
        _listed("seen", told["counts"]),
        _listed("events", told["events"]),
        _listed("on disk", told["left"]),
        *(f"fault: {fault}" for fault in told["faults"]),
        "",
        aligned(("held", "start", "most", "end"), map(_row, told["held"].items())),
        "",
        f"violations: {sum(told['violated'].values())}",
    ]
    lines += [f"  {number} x {what}" for what, number in told["violated"].items()]
    lines += [
        f"  {v['at_s']} s, step {v['step']}: {v['what']}: {v['evidence']}"
        for v in told["violations"][:SHOWN]
    ]
    return "\n".join(lines)


def _listed(name: str, counts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{key}: {number}" for key, number in sorted(counts.items()))
    return f"{name}: {listed or 'none'}"


def _row(item: tuple[str, Mapping[str, int]]) -> tuple[str, ...]:
    name, held = item
    unit, scale = (" MiB", MIB) if name.endswith("_bytes") else ("", 1)
    values = (f"{held[key] / scale:.0f}" for key in ("start", "max", "end"))
    return name.removesuffix("_bytes") + unit, *values
