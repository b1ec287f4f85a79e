"""The parts of a bundle -> its report: one HTML page without scripts or other files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from edgeq.bundle import Manifest
from edgeq.observe.charts.marks import printable
from edgeq.observe.report.layers import float_ops_section, layers_section
from edgeq.observe.report.mapping import mapping_section, mapping_title
from edgeq.observe.report.markup import facts
from edgeq.observe.report.parts import ReportParts
from edgeq.observe.report.tensors import tensors_section
from edgeq.observe.report.timing import latency_section, refinements_picture, stages_section
from edgeq.observe.report.verdict import engine_name, verdict_section

__all__ = ["engine_lines", "report_html"]


def report_html(parts: ReportParts) -> str:
    """Return the page; every text from outside is escaped."""
    files = resources.files(__package__)
    template = Template(files.joinpath("report.html").read_text("utf-8"))
    manifest = parts.manifest
    return template.substitute(
        title=printable(f"{manifest.name}: edgeq report"),
        name=printable(manifest.name),
        style=files.joinpath("report.css").read_text("utf-8"),
        made=printable(f"{engine_name(manifest.engine)}, built {_clock(manifest.created)}"),
        verdict=verdict_section(parts),
        latency=latency_section(parts),
        stages=stages_section(parts),
        mapping_title=mapping_title(parts),
        mapping=mapping_section(parts),
        layers=layers_section(parts),
        float_ops=float_ops_section(parts),
        tensors=tensors_section(parts),
        refinements=refinements_picture(parts),
        plan=_plan(parts.plan),
        facts=_facts(manifest),
    )


def engine_lines(details: Mapping[str, Any]) -> list[str]:
    """Say what a GPU's kernels are for, how they were chosen, and what runs beside them.

    Args:
        details: of the manifest; a backend's that was measured and not taken are in it too.
    """
    lines = [f"not on {name}: {reason}" for name, reason in details.get("refused", {}).items()]
    if "target" not in details:
        return lines
    tuned = "tuned on the GPU" if details.get("tuned") else f"not tuned: {details.get('tuning')}"
    lines.append(f"for {details['target']}, {details.get('kernels')} kernels, {tuned}")
    if "proven_by" in details:
        lines.append(f"proven by {details['proven_by']} here; its box checks the golden answers")
    on_cpu = details.get("cpu_ops", [])
    lines += [f"on the CPU: {op['index']} {op['name']}: {op['reason']}" for op in on_cpu]
    return lines


def _facts(manifest: Manifest) -> str:
    return facts(
        {
            "engine": f"{manifest.engine}, ranges by {manifest.method}",
            "kernels": "; ".join(engine_lines(manifest.details)),
            "refined": ", ".join(manifest.refined),
            "samples": str(manifest.samples or ""),
            "model": f"SHA-256 {manifest.model_sha256}",
            "made": f"{_clock(manifest.created)} by edgeq {manifest.edgeq} on {manifest.runtime}",
        }
    )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _plan(text: str) -> str:
    if not text:
        return ""
    lines = "\n".join(printable(line) for line in text.splitlines())
    return (
        "<details><summary>Each launch on the GPU</summary>"
        '<div class="scroll" tabindex="0" role="group" aria-label="launches">'
        f"<pre>{lines}</pre></div></details>"
    )
