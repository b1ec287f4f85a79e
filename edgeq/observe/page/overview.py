"""The whole status -> what a person sees first: is anything wrong, and one line for each model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from edgeq.observe.page.element import Element, Nodes, element
from edgeq.observe.page.model import identity, latest, state_of
from edgeq.observe.page.words import (
    NOTHING,
    badge,
    command,
    milliseconds,
    number,
    plural,
    row,
    table,
)

Status = Mapping[str, Any]
Concern = tuple[str, str, str, str]  # how bad, the model, what is wrong, a command that helps

REFUSALS = ("build ", "recalibration refused")  # how a reason begins that is one
LOOKS = {"failing": "bad", "errors": "bad", "drift": "bad", "fault": "busy", "build": "busy"}


def concerns(models: Mapping[str, Status]) -> list[Concern]:
    """Return what a person should know of, model by model."""
    return [each for name, model in models.items() for each in _concerns(name, model)]


def _concerns(name: str, model: Status) -> Iterator[Concern]:
    word, live, drift = shlex.quote(name), model["live"], model["drift"]
    if model["state"] == "failed":
        yield "failing", name, model["reason"] or "nothing serves", f"edgeq history {word}"
    elif model["reason"].startswith(REFUSALS):
        yield "build", name, model["reason"], f"edgeq history {word}"
    if live and live.get("fault"):
        yield "fault", name, live["fault"], "edgeq doctor"
    if model["health"]["errors"]:
        said = f"{plural(model['health']['errors'], 'request')} failed in the engine"
        back = f"edgeq rollback {word}" if model["previous"] else f"edgeq history {word}"
        yield "errors", name, f"{said}, of {model['health']['requests']:,}", back
    if drift and drift["active"]:
        yield "drift", name, drift["reason"], f"edgeq recalibrate {word}"


def headline(status: Status) -> str:
    """Return how the box is, in a few words; the page's title begins with it."""
    models = status["models"].values()
    served = sum(1 for model in models if model["live"])
    parts = ["safe mode"] if status.get("safe_mode") else []
    parts += [f"{served} of {plural(len(models), 'model')} served"]
    building = sum(1 for model in models if model["build"])
    drifting = sum(1 for model in models if model["drift"] and model["drift"]["active"])
    parts += [f"{building} building"] if building else []
    parts += [f"{drifting} drifting"] if drifting else []
    refused = len(status["quarantine"])
    parts += [f"{plural(refused, 'drop')} refused"] if refused else []
    return ", ".join(parts)


def states(status: Status) -> dict[str, str]:
    """Return each model's state in words: a page reads out what changes of it."""
    return {name: _state(model) for name, model in sorted(status["models"].items())}


def _state(model: Status) -> str:
    live = model["live"]
    served = f"version {live['version']} on {live['engine']}" if live else "not served"
    drift = ", the inputs drift" if model["drift"] and model["drift"]["active"] else ""
    return f"{model['state']}, {served}{drift}"


def attention(status: Status) -> Element:
    """Return the list of what is wrong, or that nothing is."""
    found = concerns(dict(sorted(status["models"].items())))
    refused = len(status["quarantine"])
    items = [*_of_the_daemon(status), *(_concern(*each) for each in found)]
    if refused:
        link = element("a", f"{plural(refused, 'drop')} refused", href="#quarantine")
        items.append(element("li", badge("quarantine", "dim"), element("div", link, ".")))
    well = element("p", badge("well", "good"), " Nothing needs you.", class_="well")
    return element(
        "section",
        element("h2", "What needs you", id="attention-title", class_="heard"),
        element("ul", items, class_="concerns") if items else well,
        id="attention",
        aria_labelledby="attention-title",
    )


def _of_the_daemon(status: Status) -> Iterator[Element]:
    if safe_mode := status.get("safe_mode"):
        minutes = f"{safe_mode['ends_in_s'] / 60:.0f} min"
        said = (
            f"Nothing is built and no drop is taken: {safe_mode['reason']}. "
            f"Engines: {safe_mode['engines']}. It ends in {minutes}, or with "
        )
        body = element("div", said, command("edgeq resume"))
        yield element("li", badge("safe mode", "bad"), body, data_key="safe-mode")
    for thread in status.get("stuck", ()):
        said = f"The thread {thread['thread']} has been at {thread['doing']} for "
        wait = f"{thread['seconds']:,} s. "
        body = element("div", said, wait, command("journalctl -u edgeq"))
        yield element("li", badge("stuck", "bad"), body, data_key=f"stuck-{thread['thread']}")


def _concern(kind: str, name: str, what: str, line: str) -> Element:
    link = element("a", name, href=f"#{identity(name)}")
    said = element("div", link, f": {what} ", command(line))
    return element("li", badge(kind, LOOKS[kind]), said, data_key=f"{kind}-{name}")


def summary(status: Status) -> Element | None:
    """Return a table with a line for each model."""
    models = sorted(status["models"].items())
    if not models:
        return None
    header = ("model", "state", "version", "engine", "p50", "p99", "requests/s", "drift")
    rows = [_row(name, model, status["now"]) for name, model in models]
    return element(
        "div",
        table("Models, with times over the last 10 seconds", header, rows, class_="models"),
        class_="scroll",
        role="region",
        aria_label="Models",
        tabindex="0",
    )


def _row(name: str, model: Status, now: float) -> Element:
    live, point, drift = model["live"] or {}, latest(model, now), model["drift"]
    rate = number(point[3] / model["series"]["interval_s"]) if point else NOTHING
    figures = [milliseconds(point[4]), milliseconds(point[5]), rate] if point else [NOTHING] * 3
    return row(
        name,
        element("a", name, href=f"#{identity(name)}"),
        state_of(model),
        live.get("version", NOTHING),
        live.get("engine", NOTHING),
        *figures,
        _drift(drift),
    )


def _drift(drift: Status | None) -> Nodes:
    if drift is None:
        return NOTHING
    return badge("active", "bad") if drift["active"] else "none"
