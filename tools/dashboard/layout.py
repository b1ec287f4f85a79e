"""Rows of panels -> the dashboard."""

from __future__ import annotations

from typing import Any

from tools.dashboard import rows
from tools.dashboard.panels import AMBER, BLUE, RED, SOURCE, Panel

Json = dict[str, Any]

COLUMNS = 24
ROWS = (
    ("Overview", rows.overview), ("Latency and traffic", rows.latency), ("Drift", rows.drift),
    ("Saturation", rows.saturation), ("Samples, builds and swaps", rows.builds),
    ("Board", rows.board),
)  # fmt: skip
# A version's series begins with the swap: it is new where the ten minutes up to two minutes ago had
# none. A scrape that failed in between makes no swap.
SWAPPED = (
    f"edgeq_model_info{{{rows.MODEL}}} unless on (instance, model, version, engine) "
    f"max_over_time(edgeq_model_info{{{rows.MODEL}}}[10m] offset 2m)"
)
ROLLED_BACK = f'increase(edgeq_swaps_total{{{rows.MODEL}, outcome="rolled_back"}}[2m]) > 0'
DRIFTING = f"edgeq_drift_active{{{rows.MODEL}}} == 1"


def dashboard() -> Json:
    """Return the dashboard as Grafana imports it."""
    return {
        "uid": "edgeq",
        "title": "edgeq",
        "description": "Models on edge boxes: what serves, how fast, how far from its calibration.",
        "tags": ["edgeq"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "15s",
        "timezone": "browser",
        "annotations": {
            "list": [
                annotation("Swaps", SWAPPED, BLUE, "{{model}} v{{version}} {{engine}}",
                           "{{instance}}: {{method}}"),
                annotation("Rollbacks", ROLLED_BACK, RED, "{{model}} rolled back", "{{instance}}"),
                annotation("Drift", DRIFTING, AMBER, "{{model}} drifts", "{{instance}}"),
            ]
        },
        "templating": {"list": variables()},
        "panels": laid_out(),
        "links": [],
    }  # fmt: skip


def annotation(name: str, expression: str, colour: str, title: str, text: str) -> Json:
    """Return marks over time where an expression has a value."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "expr": expression,
        "step": "30s",
        "titleFormat": title,
        "textFormat": text,
    }


def variables() -> list[Json]:
    """Return the choices at the top: data source, boxes, models."""
    source = {
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    }  # fmt: skip
    box = variable("instance", "Box", "label_values(edgeq_build_info, instance)")
    models = f"label_values(edgeq_model_state{{{rows.BOX}}}, model)"
    return [source, box, variable("model", "Model", models)]


def variable(name: str, label: str, query: str) -> Json:
    """Return a choice of several values, all of them at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def laid_out() -> list[Json]:
    """Return rows and panels, each at its place."""
    made: list[Json] = []
    y = 0
    for title, panels in ROWS:
        made.append(
            {
                "id": len(made) + 1, "type": "row", "title": title, "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, "panels": [],
            }
        )  # fmt: skip
        y = _place(panels(), y + 1, made)
    return made


def _place(panels: list[Panel], y: int, made: list[Json]) -> int:
    """Add panels from left to right, and return where the next row begins."""
    x = height = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        made.append(panel.made(len(made) + 1, x, y))
        x, height = x + panel.width, max(height, panel.height)
    return y + height
