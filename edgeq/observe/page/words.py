"""Figures -> the words and elements that people read."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from edgeq.observe.page.element import NARROW, Element, Node, Nodes, element

NOTHING = "\N{EN DASH}"


def number(value: float | None) -> str:
    """Return three digits of a figure, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 3)}f}"
    return f"{value:.2g}"


def percent(ratio: float) -> str:
    """Return a share in percent."""
    return f"{number(ratio * 100)}{NARROW}%"


def milliseconds(value: float | None) -> str:
    """Return a time with its unit."""
    text = number(value)
    return text if text == NOTHING else f"{text}{NARROW}ms"


def plural(count: float, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,.0f} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return bytes in the unit that suits."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{number(value)}{NARROW}{units[0]}"


def moment(seconds: float) -> Element:
    """Return a time of this box; page.js says how long ago that is."""
    local = datetime.fromtimestamp(seconds).astimezone()
    return element(
        "time",
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)),
        datetime=local.isoformat(timespec="seconds"),
        data_at=round(seconds, 1),
    )


def path(name: str) -> list[Node]:
    """Return a name that breaks at its slashes first where it is too long for its place."""
    first, *others = name.split("/")
    return [first, *(node for part in others for node in ("/", element("wbr"), part))]


def badge(text: str, look: str) -> Element:
    """Return a state in a frame; `look` is good, busy, bad or dim."""
    return element("span", text, class_=f"badge {look}")


def command(text: str) -> Element:
    """Return a line for the shell, and a button that copies it where there are scripts."""
    button = element(
        "button", "Copy", type="button", class_="copy", data_copy=text, aria_label=f"Copy {text}"
    )
    return element("span", element("code", text), button, class_="command")


def facts(rows: Mapping[str, Nodes]) -> Element:
    """Return what is known, each with its name; what is empty is left out."""
    pairs: list[Node] = []
    for name, value in rows.items():
        if value is not None and value != "" and value != []:
            pairs += [element("dt", name), element("dd", value)]
    return element("dl", pairs)


def table(
    caption: str, header: Sequence[str], rows: Sequence[Element], *, class_: str | None = None
) -> Element:
    """Return a table; the caption is for those who hear the page."""
    head = element("tr", [element("th", cell, scope="col") for cell in header])
    return element(
        "table",
        element("caption", caption, class_="heard"),
        element("thead", head),
        element("tbody", list(rows)),
        class_=class_,
    )


def row(key: str, *cells: Any, class_: str | None = None) -> Element:
    """Return a row of a table, the first cell its header; `key` is its own among the rows."""
    first, *others = cells
    return element(
        "tr",
        element("th", first, scope="row"),
        [element("td", cell) for cell in others],
        data_key=key,
        class_=class_,
    )
