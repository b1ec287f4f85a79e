from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgeq.cli import make_parser
from tests.observe.metric_names import PROMETHEUS, exposed, named

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "prometheus"
SEVERITIES = {"critical", "warning", "info"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = rules("alerts.yml")
RECORDED = rules("recording.yml")
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "recording.yml", "alerts.yml"],
        ["test", "rules", "tests.yml"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_passes(command: list[str], prometheus_tools: Path) -> None:
    ran = subprocess.run(
        [prometheus_tools / "promtool", *command],
        cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


# ---- rules


def test_rules_name_only_metrics_that_there_are() -> None:
    there_are = exposed() | PROMETHEUS
    for rule in [*ALERTS, *RECORDED]:
        names = named(rule["expr"])
        assert names <= there_are, rule


def test_what_alerts_take_from_recording_rules_is_recorded() -> None:
    recorded = {rule["record"] for rule in RECORDED}
    texts = [rule["expr"] for rule in ALERTS] + [rule["expr"] for rule in RECORDED]
    texts += [text for alert in ALERTS for text in alert["annotations"].values()]
    used = set(re.findall(r"\binstance\w*:[\w]+:\w+", " ".join(texts)))
    assert used <= recorded


def test_every_recorded_figure_keeps_the_box_it_is_of() -> None:
    assert all(rule["record"].startswith("instance") for rule in RECORDED)


# ---- alerts


@each_alert
def test_an_alert_says_how_bad_what_and_what_to_do(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"Edgeq[A-Z]\w+", alert["alert"])
    assert alert["labels"]["severity"] in SEVERITIES
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    texts = alert["annotations"]
    assert set(texts) == {"summary", "description", "runbook"}
    assert len(texts["summary"]) < 160
    assert "`" in texts["runbook"] or "As Edgeq" in texts["runbook"], "no command to type"


@each_alert
def test_an_alert_names_the_box_or_counts_boxes(alert: dict[str, Any]) -> None:
    summary = alert["annotations"]["summary"]
    assert "$labels.instance" in summary or "boxes" in summary


@each_alert
def test_a_runbook_s_commands_are_there(alert: dict[str, Any]) -> None:
    for command in re.findall(r"`edgeq ([^`]+)`", alert["annotations"]["runbook"]):
        words = re.sub(r"\{\{.*?\}\}", "face", command).split()
        try:
            make_parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"edgeq {command} is no command")


def scenarios() -> list[list[list[dict[str, Any]]]]:
    """Of each scenario of tests.yml, which alerts fire at each time that is looked at."""
    tests = yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
    return [
        [check["exp_samples"] for check in test["promql_expr_test"] if "ALERTS" in check["expr"]]
        for test in tests
    ]


def test_every_alert_is_seen_to_fire() -> None:
    fired = set(re.findall(r'alertname="(\w+)"', str(scenarios())))
    assert fired == {alert["alert"] for alert in ALERTS}


def test_every_scenario_but_the_fleet_s_has_a_time_of_silence() -> None:
    loud = [times for times in scenarios() if [] not in times]
    assert len(loud) == 1
    assert "EdgeqFleetRollback" in str(loud[0])


def test_critical_is_what_concerns_those_who_ask() -> None:
    critical = {alert["alert"] for alert in ALERTS if alert["labels"]["severity"] == "critical"}
    assert critical == {
        "EdgeqTargetDown", "EdgeqMetricsAbsent", "EdgeqRestarting", "EdgeqModelFailed",
        "EdgeqRequestsFailing", "EdgeqFleetRollback", "EdgeqDiskFull",
    }  # fmt: skip
