"""Writes the dashboard."""

from __future__ import annotations

import json
from pathlib import Path

from tools.dashboard.layout import dashboard

TARGET = Path(__file__).resolve().parents[2] / "configs" / "grafana" / "edgeq.json"


def text() -> str:
    """Return what the file holds."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
    print(f"{TARGET}: {len(dashboard()['panels'])} panels")
