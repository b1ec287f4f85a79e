from __future__ import annotations

import subprocess
from pathlib import Path


def test_promtool_tells_a_well_named_metric_from_a_bad_one(prometheus_tools: Path):
    def check(page: str) -> subprocess.CompletedProcess[str]:
        command = [prometheus_tools / "promtool", "check", "metrics"]
        return subprocess.run(command, input=page, capture_output=True, text=True, check=False)

    good = (
        "# HELP edgeq_drops_total Drops.\n# TYPE edgeq_drops_total counter\nedgeq_drops_total 1\n"
    )
    assert check(good).returncode == 0
    assert check(good.replace("_total", "")).returncode != 0


def test_prometheus_itself_is_there_too(prometheus_tools: Path):
    assert (prometheus_tools / "prometheus").is_file()
