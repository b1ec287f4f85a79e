"""One model of the status -> its card: what serves, how quickly, what is being built, its drift."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from edgeq.observe.page.chart import latency_chart
from edgeq.observe.page.drifting import drift_section
from edgeq.observe.page.element import Element, Nodes, element
from edgeq.observe.page.words import (
    badge,
    command,
    facts,
    milliseconds,
    moment,
    number,
    percent,
    plural,
    row,
    size,
    table,
)

LOOKS = {"serving": "good", "probation": "busy", "building": "busy", "failed": "bad"}
CAUSES = {
    "drop": "a new file was dropped",
    "samples": "there are samples enough",
    "drift": "the inputs drift",
    "request": "a person asked for it",
}
UNCALIBRATED = ("float", "as-is")
Model = Mapping[str, Any]


def identity(name: str) -> str:
    """Return the id of a model's card, which may stand in a link."""
    return f"model-{quote(name, safe='')}"


def state_of(model: Model) -> Element:
    """Return the model's state."""
    return badge(model["state"], LOOKS.get(model["state"], "dim"))


def latest(model: Model, now: float) -> Sequence[Any] | None:
    """Return the last point of the live version, None where it is no more of now."""
    live, series = model["live"], model["series"]
    points = [p for p in series["points"][-4:] if live and p[1] == live["version"]]
    is_fresh = bool(points) and now - points[-1][0] < 2 * series["interval_s"]
    return points[-1] if is_fresh else None


def card(name: str, model: Model, now: float) -> Element:
    """Return the article about one model."""
    live, key = model["live"], identity(name)
    served = f"version {live['version']}, {live['engine']}" if live else "not served"
    return element(
        "article",
        element(
            "h2",
            element("span", name, id=f"{key}-name"),
            state_of(model),
            badge("pinned", "dim") if model["pinned"] else None,
            element("span", served, class_="served"),
        ),
        element("p", model["reason"], class_="reason", data_key="reason")
        if model["reason"] and not model["build"]
        else None,
        _build(model),
        element("div", _facts(model), _figures(name, model, now), class_="sides", data_key="sides"),
        drift_section(key, model["drift"]),
        _versions(key, name, model),
        _commands(key, name, model),
        id=key,
        class_="card",
        aria_labelledby=f"{key}-name",
    )


def _build(model: Model) -> Element | None:
    build, progress = model["build"], model["progress"]
    if not build and not progress:
        return None
    stage = progress["stage"] if progress else "waiting"
    total = progress["total"] if progress else 0
    count = f" {progress['done']} of {total}" if progress and total else ""
    why = f", because {CAUSES.get(build['cause'], build['cause'])}" if build else ""
    what = model["reason"].capitalize() or "Building"
    bar = {"max": total, "value": progress["done"]} if progress and total else {}
    return element(
        "p",
        element("span", f"{what}{why}: ", element("strong", f"{stage}{count}")),
        element("progress", aria_label=f"Build, {stage}", **bar),
        class_="build",
        data_key="build",
    )


def _figures(name: str, model: Model, now: float) -> Element:
    """The picture of the last hour under what is so now."""
    chart = latency_chart(name, model["series"], now)
    if chart is None:
        return element("p", "No request in the last hour.", class_="figures dim")
    caption = element("figcaption", "Inference time: ", _now(model, now))
    return element("figure", caption, chart, class_="figures")


def _now(model: Model, now: float) -> list[Nodes]:
    series, point = model["series"], latest(model, now)
    if point is not None:
        p50, p99 = (element("strong", milliseconds(each)) for each in point[4:6])
        rate = number(point[3] / series["interval_s"])
        return ["p50 ", p50, " (line), p99 ", p99, f" (band), {rate} requests/s"]
    last = series["points"][-1]
    if now - last[0] < 2 * series["interval_s"] and model["live"]:
        return [f"version {model['live']['version']} has just taken over"]
    return ["no request since ", moment(last[0])]


def _facts(model: Model) -> Element:
    live = model["live"] or {}
    return facts(
        {
            "ranges by": "" if live.get("method") in UNCALIBRATED else live.get("method", ""),
            "took over": moment(live["since"]) if live else None,
            "fault": live.get("fault") or None,
            "batching": live.get("batching") or None,
            "previous": f"version {model['previous']}" if model["previous"] else None,
            "since then": _health(model["health"]) if live else None,
            "waiting": plural(model["queue_length"], "request") if model["queue_length"] else None,
            "probation": _probation(model.get("probation")),
            "samples": _samples(model["samples"]),
            "by drift": _strata(model["samples"]),
        }
    )


def _health(health: Model) -> str:
    parts = [plural(health["requests"], "request")]
    if health["errors"]:
        parts.append(f"{health['errors']:,} failed")
    if health["nonfinite"]:
        parts.append(f"{health['nonfinite']:,} gave NaN or infinity")
    return ", ".join(parts)


def _probation(probation: Model | None) -> str | None:
    if not probation:
        return None
    parts = [f"version {probation['version']} beside version {probation['before']}"]
    new, before, shadow = probation["latency"], probation["latency_before"], probation["shadow"]
    if new["requests"] and before["requests"]:
        times = (milliseconds(each["median_s"] * 1e3) for each in (new, before))
        parts.append("{}, before {}".format(*times))
    if shadow and shadow["compared"]:
        shown = f"{percent(shadow['disagreement'])} disagree of {shadow['compared']:,} compared"
        parts.append(shown)
    return "; ".join([*parts, f"{probation['ends_in_s']:.0f} s left"])


def _samples(samples: Model) -> Nodes:
    stored, needed = samples["fit"] + samples["held_out"], samples["minimum"]
    bar = element(
        "progress",
        aria_label="Samples stored of those needed",
        max=needed,
        value=min(stored, needed),
    )
    if stored < needed:
        return [f"{stored:,} of {needed:,} that a build needs ", bar]
    return f"{stored:,}, {samples['held_out']:,} held out; {size(samples['bytes'])}"


def _strata(samples: Model) -> str:
    """How many are of before any drift, and of each since it began."""
    strata = [f"{each['samples']:,} {each['name']}" for each in samples["strata"]]
    return ", ".join(strata) if len(strata) > 1 else ""


def _versions(key: str, name: str, model: Model) -> Element | None:
    versions = model["versions"]
    if not versions:
        return None
    live = model["live"]["version"] if model["live"] else None
    rows = [_version(name, each, live, model["previous"]) for each in versions]
    header = ("version", "engine", "ranges", "state", "made", "", "")
    return element(
        "details",
        element("summary", f"Versions ({len(versions)})"),
        element("div", table("Versions, the newest first", header, rows), class_="scroll"),
        id=f"{key}-versions",
    )


def _version(name: str, version: Model, live: str | None, previous: str | None) -> Element:
    number_, state = version["version"], version["state"]
    if number_ == live:
        shown: Nodes = badge("live", "good")
    else:
        shown = "previous" if number_ == previous else state.replace("_", " ")
    return row(
        number_,
        number_,
        version["engine"],
        version["method"],
        shown,
        moment(version["created"]),
        _report(name, version),
        version["reason"],
    )


def _report(name: str, version: Model) -> Nodes:
    if not version["has_report"]:
        return ""
    number_ = version["version"]
    path = f"/edgeq/models/{quote(name, safe='')}/versions/{number_}/report"
    return element("a", "report", href=path, aria_label=f"Report of version {number_}")


def _commands(key: str, name: str, model: Model) -> Element:
    word = shlex.quote(name)
    rows = {
        "go back to the previous version": f"edgeq rollback {word}" if model["previous"] else "",
        "build again on the samples of now": f"edgeq recalibrate {word}" if model["live"] else "",
        "take drops again": f"edgeq unpin {word}" if model["pinned"] else "",
        "keep this version, whatever is dropped": "" if model["pinned"] else f"edgeq pin {word}",
        "see all that happened to it": f"edgeq history {word}",
    }
    listed = [
        element("li", command(line), " ", element("span", what, class_="dim"))
        for what, line in rows.items()
        if line
    ]
    return element(
        "details",
        element("summary", "What you can do"),
        element("ul", listed, class_="commands"),
        id=f"{key}-commands",
    )
