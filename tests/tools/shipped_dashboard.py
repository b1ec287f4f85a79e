"""configs/grafana/edgeq.json, and what it asks Prometheus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).resolve().parents[2] / "configs" / "grafana" / "edgeq.json"

Json = dict[str, Any]


def dashboard() -> Json:
    """The dashboard as it is shipped."""
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> list[Json]:
    """All but the rows' titles."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every PromQL expression, the annotations' among them."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return asked + [each["expr"] for each in dashboard()["annotations"]["list"]]
