"""What drift was found -> a bar for each tensor up to its threshold, and the inputs' health."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.observe.page.element import NARROW, Element, Nodes, element
from edgeq.observe.page.words import NOTHING, badge, number, percent, plural, row, table

SHOWN = 6  # streams; the others are folded away
NOTABLE_RAIL = 0.001  # a share at a rail is told where it grew by this much
NOTABLE_SCALE = 1.1
STATISTICS = {"psi": "PSI", "ks_ratio": "KS", "wasserstein_ratio": "W1"}


def drift_section(key: str, drift: Mapping[str, Any] | None) -> Element | None:
    """Return how far the inputs are from calibration; None where nothing is watched."""
    if drift is None:
        return None
    streams = sorted(drift["tensors"], key=_exceeds, reverse=True)
    rest = streams[SHOWN:]
    return element(
        "section",
        element("h3", "Drift ", badge("active", "bad") if drift["active"] else None),
        element("p", _verdict(drift), class_="reason" if drift["active"] else "dim"),
        _bars("Drift of each stream against its threshold", streams[:SHOWN]),
        element(
            "details",
            element("summary", f"{len(rest)} more"),
            _bars("The streams that are farther from their thresholds", rest),
            id=f"{key}-streams",
        )
        if rest
        else None,
        _health(drift.get("health")),
        class_="drift",
    )


def _verdict(drift: Mapping[str, Any]) -> str:
    frames = plural(round(drift["samples"]), "frame")
    if drift["active"]:
        return str(drift["reason"])
    return f"None in the last {frames}." if drift["samples"] else "No frame was looked at yet."


def _exceeds(stream: Mapping[str, Any]) -> float:
    """The statistic that decides over its threshold; 0 where there is none."""
    value, threshold = _value(stream), stream.get("threshold")
    if value is None or threshold is None or not threshold > 0 or math.isinf(threshold):
        return 0.0
    return float(value / threshold)


def _value(stream: Mapping[str, Any]) -> float | None:
    value: float | None = stream.get(stream.get("statistic", "psi"))
    return value


def _bars(caption: str, streams: Sequence[Mapping[str, Any]]) -> Element | None:
    if not streams:
        return None
    header = ("stream", "distance", "value", "threshold", "")
    return table(caption, header, [_stream(each) for each in streams], class_="bars")


def _stream(stream: Mapping[str, Any]) -> Element:
    exceeds = _exceeds(stream)
    is_active = bool(stream.get("active", exceeds > 1))
    name, statistic = stream["tensor"], STATISTICS.get(stream.get("statistic", "psi"), "")
    return row(
        name,
        name,
        _bar(exceeds, f"{exceeds:.0%} of the threshold"),
        f"{statistic} {number(_value(stream))}",
        number(stream.get("threshold")),
        _notes(stream),
        class_="over" if is_active else None,
    )


def _bar(exceeds: float, said: str) -> Element:
    """The threshold is in the middle; beyond it a bar grows ever more slowly and never ends."""
    share = exceeds / 2 if exceeds <= 1 else 1 - 1 / (2 * exceeds)
    return element(
        "svg",
        element("rect", class_="track", width="100%", height=8, y=4, rx=2),
        element("rect", class_="value", width=f"{share:.1%}", height=8, y=4, rx=2),
        element("line", class_="threshold", x1="50%", x2="50%", y1=0, y2=16),
        class_="bar",
        role="img",
        aria_label=said,
        width="100%",
        height=16,
    )


def _notes(stream: Mapping[str, Any]) -> str:
    """Where values gather at a rail, and where calibration would choose another range now."""
    notes = []
    for rail in ("low", "high"):
        now, then = stream.get(f"{rail}_ratio"), stream.get(f"{rail}_reference")
        if now is not None and then is not None and now - then >= NOTABLE_RAIL:
            notes.append(f"{percent(now)} at the {rail} rail, {percent(then)} at calibration")
    scale = stream.get("scale_ratio")
    if scale and not 1 / NOTABLE_SCALE <= scale <= NOTABLE_SCALE:
        notes.append(f"range would be \N{MULTIPLICATION SIGN}{NARROW}{scale:.2f}")
    return "; ".join(notes)


def _health(health: Any) -> Nodes:
    """Complaints about input frames: a share of them by complaint, or counts for each input."""
    if isinstance(health, Mapping):
        told = [f"{_words(name)} {percent(share)}" for name, share in health.items() if share]
        checked = f"checked for {', '.join(map(_words, health))}" if health else ""
        return _health_line("Input frames", told, checked)
    lines: list[Any] = []
    for each in health or ():
        faults: Mapping[str, int] = each["faults"]
        told = [f"{_words(name)} {count:,}" for name, count in faults.items() if count]
        if each.get("identical_s"):
            told.append(f"the same frame for {number(each['identical_s'])} s")
        lines.append(_health_line(f"Input {each['tensor']}", told, plural(each["frames"], "frame")))
    return lines


def _health_line(name: str, told: Sequence[str], otherwise: str) -> Nodes:
    if not told and not otherwise:
        return None
    good = f"well ({otherwise})" if otherwise else NOTHING
    text = "; ".join(told) if told else good
    return element("p", element("strong", f"{name}: "), text, class_="health" if told else "dim")


def _words(name: str) -> str:
    return name.replace("_", " ")
