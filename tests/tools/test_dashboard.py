from __future__ import annotations

import re

from tests.observe.metric_names import PROMETHEUS, exposed, named
from tests.tools.shipped_dashboard import DASHBOARD, dashboard, expressions, panels
from tools.dashboard.__main__ import text
from tools.dashboard.pictures.__main__ import PICTURES

# What PromQL on a dashboard cannot say more of than another metric does, or says once for all.
NOT_SHOWN = {
    "process_virtual_memory_bytes", "process_open_fds", "process_max_fds",
    "process_start_time_seconds",  # the alert EdgeqRestarting
    "edgeq_device_source_up",  # the alert EdgeqBoardSourceStuck
}  # fmt: skip


def test_the_shipped_dashboard_is_what_the_tool_makes() -> None:
    assert DASHBOARD.read_text() == text()


def test_it_names_only_metrics_that_there_are() -> None:
    there_are = exposed() | PROMETHEUS
    for expression in expressions():
        assert named(expression)
        assert named(expression) <= there_are, expression


def test_every_metric_is_on_the_dashboard_or_said_to_be_left_out() -> None:
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for expression in expressions()
        for name in named(expression)
    }
    families = {name for name in exposed() if not re.search(r"_(bucket|count|sum)$", name)}
    assert families - shown == NOT_SHOWN


def test_every_query_is_of_the_chosen_boxes_and_models() -> None:
    variables = {each["name"] for each in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "instance", "model"}
    for expression in expressions():
        assert 'instance=~"$instance"' in expression
        assert 'model=~"$model"' in expression or not re.search(r"_model|requests", expression)
        unknown = set(re.findall(r"\$(\w+)", expression)) - variables
        assert unknown <= {"__rate_interval", "__interval"}


def test_every_panel_says_what_it_shows_and_has_a_unit() -> None:
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith((".", "?"))
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"


def test_panels_fill_the_grid_without_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_rows_are_those_of_the_readme() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Overview", "Latency and traffic", "Drift", "Saturation", "Samples, builds and swaps",
        "Board",
    ]  # fmt: skip


def test_swaps_rollbacks_and_drift_are_marked_on_every_graph() -> None:
    marks = dashboard()["annotations"]["list"]
    assert [each["name"] for each in marks] == ["Swaps", "Rollbacks", "Drift"]
    assert all(each["enable"] for each in marks)


def test_the_pictures_are_of_rows_that_there_are_and_small() -> None:
    rows = {panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"}
    for name, (first, after) in PICTURES.items():
        assert {first, after} - {""} <= rows
        picture = DASHBOARD.parent / f"{name}.png"
        assert picture.stat().st_size < 150_000
