"""Queries, titles and units -> panels in Grafana's JSON (schema 39, Grafana 10 and later)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SOFT_TOPS = {"percentunit": 0.01, "s": 0.001}
NO_FOOTER = {"show": False, "reducer": ["sum"]}
GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "#8e8e8e"


@dataclass(frozen=True)
class Query:
    """One PromQL query and how its series are called.

    Args:
        expression: with Grafana's variables.
        legend: e.g. "{{model}}"; '' for a table.
        is_instant: the value now, not over time.
    """

    expression: str
    legend: str = ""
    is_instant: bool = False

    def target(self, letter: str, *, as_table: bool) -> Json:
        """Return it as a panel's target."""
        return {
            "refId": letter,
            "datasource": SOURCE,
            "expr": self.expression,
            "legendFormat": self.legend or "__auto",
            "instant": self.is_instant,
            "range": not self.is_instant,
            "format": "table" if as_table else "time_series",
        }


@dataclass(frozen=True)
class Panel:
    """What is shown, and how; `made` gives Grafana's JSON at a place of the grid of 24 columns."""

    kind: str
    title: str
    text: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    unit: str = "short"
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)  # of the field configuration
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()

    def made(self, number: int, x: int, y: int) -> Json:
        """Return the panel."""
        as_table = self.kind == "table"
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [
                query.target(letter, as_table=as_table)
                for letter, query in zip("ABCDEFGHIJKL", self.queries, strict=False)
            ],
            "fieldConfig": {
                "defaults": {"unit": self.unit, "custom": self.custom, **self.defaults},
                "overrides": list(self.overrides),
            },
            "options": self.options,
        }
        if self.transformations:
            panel["transformations"] = list(self.transformations)
        return panel


def steps(*pairs: tuple[float | None, str]) -> Json:
    """Colours from values on; the first step has none."""
    return {"mode": "absolute", "steps": [{"value": v, "color": colour} for v, colour in pairs]}


def graph(
    title: str,
    text: str,
    *queries: Query,
    unit: str = "short",
    width: int = 8,
    limit: float | None = None,
    stacked: bool = False,
    bars: bool = False,
    top: float | None = None,
    is_ranked: bool = False,
    lowest: float | None = None,
    colours: dict[str, str] | None = None,
    overrides: tuple[Json, ...] = (),
) -> Panel:
    """Lines over time, or bars; `limit` draws a dashed red line, `top` ends the axis.

    `is_ranked` is for many lines: the legend beside them, the highest first. `lowest` makes the
    axis logarithmic from there, for lines of which some are a hundred times others.
    """
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        # Of stacked lines one that is 0 would lie on the sum of the others.
        "lineWidth": 1 if bars else 0 if stacked else 2,
        "fillOpacity": 70 if bars else 50 if stacked else 0 if is_ranked else 10,
        "showPoints": "never",
        "spanNulls": False,
        "axisSoftMin": 0,
        "axisSoftMax": SOFT_TOPS.get(unit, 1),  # or an axis of zeros would end at 100
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    defaults: Json = {"color": {"mode": "palette-classic"}, "min": lowest or 0}
    if lowest is not None:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    if limit is not None:
        defaults["thresholds"] = steps((None, GREEN), (limit, RED))
    if top is not None:
        defaults["max"] = top
    options = {
        "legend": _ranked_legend() if is_ranked else _legend(),
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    coloured = tuple(
        by_pattern(pattern, color={"mode": "fixed", "fixedColor": colour})
        for pattern, colour in (colours or {}).items()
    )
    return Panel("timeseries", title, text, queries, width, 8, unit, options, custom, defaults,
                 (*coloured, *overrides))  # fmt: skip


def _legend() -> Json:
    return {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}


def _ranked_legend() -> Json:
    shown = {"displayMode": "table", "placement": "right", "showLegend": True}
    return {**shown, "calcs": ["lastNotNull"], "sortBy": "Last *", "sortDesc": True}


def stat(
    title: str, text: str, query: Query, *, unit: str = "short", thresholds: Json, width: int = 4,
    decimals: int | None = None,
) -> Panel:  # fmt: skip
    """One number, coloured by thresholds, over its course."""
    defaults: Json = {"thresholds": thresholds, "color": {"mode": "thresholds"}, "noValue": "none"}
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "center",
        "textMode": "value",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel("stat", title, text, (query,), width, 4, unit, options, defaults=defaults)


def bar_gauge(
    title: str, text: str, query: Query, *, unit: str, thresholds: Json, width: int = 8,
    top: float | None = None,
) -> Panel:  # fmt: skip
    """A bar for each series, its value now."""
    defaults: Json = {"thresholds": thresholds, "color": {"mode": "thresholds"}, "min": 0}
    if top is not None:
        defaults["max"] = top
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "namePlacement": "auto",
        "sizing": "manual",
        "minVizHeight": 16,
        "maxVizHeight": 60,
        "minVizWidth": 8,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel("bargauge", title, text, (query,), width, 8, unit, options, defaults=defaults)


@dataclass(frozen=True)
class Column:
    """A column of a table: a label, or the value of the query of the same place."""

    field: str
    title: str
    unit: str = ""
    width: int | None = None
    thresholds: Json | None = None
    mappings: tuple[Json, ...] = ()
    decimals: int | None = None

    def override(self) -> Json:
        """Return how its cells look."""
        properties: Json = {}
        if self.unit:
            properties["unit"] = self.unit
        if self.decimals is not None:
            properties["decimals"] = self.decimals
        if self.width:
            properties["custom.width"] = self.width
        if self.mappings:
            properties["mappings"] = list(self.mappings)
        if self.thresholds or self.mappings:
            properties["custom.cellOptions"] = {"type": "color-text"}
        if self.thresholds:
            properties["thresholds"] = self.thresholds
        return by_name(self.title, **properties)


def table(
    title: str, text: str, queries: tuple[Query, ...], columns: tuple[Column, ...], *,
    height: int = 8, width: int = 24, sort: str = "", descending: bool = False,
) -> Panel:  # fmt: skip
    """A row for each set of labels, a column for each query; what is not a column is left out."""
    hidden = {"Time": True, "__name__": True, "job": True}
    hidden |= {f"Value #{letter}": True for letter in "ABCDEFGHIJKL"[: len(queries)]}
    for column in columns:
        hidden.pop(column.field, None)
    arranged = {
        "excludeByName": hidden,
        "indexByName": {column.field: place for place, column in enumerate(columns)},
        "renameByName": {column.field: column.title for column in columns},
    }
    kept = "^(" + "|".join(column.title for column in columns) + ")$"
    transformations: tuple[Json, ...] = (
        {"id": "merge", "options": {}},
        {"id": "organize", "options": arranged},
        {"id": "filterFieldsByName", "options": {"include": {"pattern": kept}}},
    )
    by = [{"displayName": sort, "desc": descending}] if sort else []
    options = {"showHeader": True, "cellHeight": "sm", "sortBy": by, "footer": NO_FOOTER}
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "minWidth": 90}
    overrides = tuple(column.override() for column in columns)
    return Panel("table", title, text, queries, width, height, "short", options, custom,
                 {"noValue": ""}, overrides, transformations)  # fmt: skip


def mapped(pairs: dict[str, tuple[str, str]]) -> Json:
    """A value's text and colour: {"1": ("drift", "red")}."""
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": colour, "index": index}
            for index, (value, (text, colour)) in enumerate(pairs.items())
        },
    }


def by_name(name: str, **properties: Any) -> Json:
    """What differs for the field of this name."""
    return _override("byName", name, properties)


def by_pattern(pattern: str, **properties: Any) -> Json:
    """What differs for the fields whose name has this pattern."""
    return _override("byRegexp", f"/{pattern}/", properties)


def _override(matcher: str, options: str, properties: Json) -> Json:
    listed = [{"id": name, "value": value} for name, value in properties.items()]
    return {"matcher": {"id": matcher, "options": options}, "properties": listed}
