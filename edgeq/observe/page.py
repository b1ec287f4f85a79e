"""The JSON of `GET /edgeq/status` -> the status page, whole, without scripts or other files."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

STATE_CLASSES = {"serving": "good", "probation": "busy", "building": "busy", "failed": "bad"}


def render_page(status: Mapping[str, Any]) -> str:
    """Return the HTML; every text from outside is escaped."""
    template = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    models = [_model(name, model) for name, model in sorted(status["models"].items())]
    return template.substitute(
        models="\n".join(models) or "<p>No model yet: drop a .tflite file into the folder.</p>",
        events=_table(
            ("time", "model", "version", "what", ""),
            [
                (_clock(e["time"]), e["name"], e["version"], e["kind"], e["message"])
                for e in status["events"]
            ],
        ),
        quarantine=_table(
            ("time", "model", "stage", "reason", "what to do"),
            [
                (_clock(e["time"]), e["name"], e["stage"], e["error"], e["hint"])
                for e in status["quarantine"]
            ],
        ),
    )


def _model(name: str, model: Mapping[str, Any]) -> str:
    live, latency, drift = model["live"], model["latency"], model["drift"]
    samples = model["samples"]
    stored = samples["fit"] + samples["held_out"]
    facts = [
        ("engine", f"{live['engine']}, {live['method']}" if live else "none"),
        ("fault", live.get("fault") if live else ""),
        ("serving since", _clock(live["since"]) if live else ""),
        ("previous version", model["previous"]),
        ("build", _progress(model["progress"])),
        ("note", model["reason"]),
        ("inference", _latency(latency)),
        ("samples", f"{stored} stored, {samples['minimum']} needed, at most {samples['maximum']}"),
        ("drift", _drift(drift)),
    ]
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts if v)
    version = f"version {live['version']}" if live else "not served"
    css = STATE_CLASSES.get(model["state"], "dim")
    pinned = ' <span class="dim">pinned</span>' if model["pinned"] else ""
    return (
        f'<article><h2>{escape(name)} <span class="dim">{escape(version)}</span>'
        f'<span class="state {css}">{escape(model["state"])}</span>{pinned}</h2>'
        f"<dl>{rows}</dl></article>"
    )


def _progress(progress: Mapping[str, Any] | None) -> str:
    if not progress:
        return ""
    count = f" {progress['done']} of {progress['total']}" if progress["total"] else ""
    return f"{progress['stage']}{count}"


def _latency(latency: Mapping[str, Any] | None) -> str:
    if not latency or not latency["count"]:
        return ""
    return (
        f"p50 {latency['p50_ms']:.2f} ms, p99 {latency['p99_ms']:.2f} ms "
        f"({latency['count']} requests)"
    )


def _drift(drift: Mapping[str, Any] | None) -> str:
    if not drift:
        return ""
    if drift["active"]:
        return str(drift["reason"])
    return f"none in the last {drift['samples']} samples"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return '<p class="dim">None.</p>'
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
