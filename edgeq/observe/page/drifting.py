"""What drift was found -> a bar for each tensor up to its threshold, and the inputs' health."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgeq.observe.page.element import Element, element
from edgeq.observe.page.words import badge, number, path, percent, plural, row, table

SHOWN = 6  # streams; the others are folded away
NOTABLE_RAIL = 0.001  # a share at a rail is told where it grew by this much
NOTABLE_SCALE = 1.1
NOTABLE_FAULTS = 0.01  # of the frames
RAILS = ("low", "high")
STATISTICS = {
    "psi": "PSI",
    "js_distance": "JS",
    "ks_ratio": "KS",
    "wasserstein_ratio": "Wasserstein",
    "hellinger": "Hellinger",
}

Stream = Mapping[str, Any]


def drift_section(key: str, drift: Mapping[str, Any] | None) -> Element | None:
    """Return how far the inputs are from calibration; None where nothing is watched."""
    if drift is None:
        return None
    streams = sorted(map(_worst, drift["tensors"]), key=lambda each: each.exceeds, reverse=True)
    rest = streams[SHOWN:]
    return element(
        "section",
        element("h3", "Drift ", badge("active", "bad") if drift["active"] else None),
        element("p", _verdict(drift), class_="reason" if drift["active"] else "dim"),
        element("p", "Recalibration: ", drift["recalibration"])
        if drift.get("recalibration")
        else None,
        _bars("Drift of each stream against its threshold", streams[:SHOWN]),
        element(
            "details",
            element("summary", f"{len(rest)} more"),
            _bars("The streams that are farther from their thresholds", rest),
            id=f"{key}-streams",
        )
        if rest
        else None,
        element("p", "Not to be calibrated on: ", drift["unfit"], class_="health")
        if drift.get("unfit")
        else None,
        _health(drift.get("health", ())),
        class_="drift",
    )


def _verdict(drift: Mapping[str, Any]) -> str:
    frames = plural(round(drift["samples"]), "frame")
    if drift["active"]:
        return str(drift["reason"])
    return f"None in the last {frames}." if drift["samples"] else "No frame was looked at yet."


class _Bound(NamedTuple):
    """What of a stream is nearest to its bound, or farthest beyond it."""

    exceeds: float  # 1 is at the bound; 0 where there is none
    rail: str  # "" where it is the statistic that decides
    stream: Stream


def _worst(stream: Stream) -> _Bound:
    value = stream.get(stream.get("statistic", "psi"))
    worst = _Bound(_ratio(value, stream.get("threshold")), "", stream)
    for rail in RAILS:
        exceeds = _rail(stream, rail)
        if exceeds > worst.exceeds:
            worst = _Bound(exceeds, rail, stream)
    return worst


def _rail(stream: Stream, rail: str) -> float:
    value, bound = stream.get(f"{rail}_ratio"), stream.get(f"{rail}_threshold")
    if value is None or bound is None:
        return 0.0
    usual = stream[f"{rail}_reference"]  # of an image half black half of the values are at a rail
    return _ratio(value - usual, bound - usual)


def _ratio(value: float | None, bound: float | None) -> float:
    if value is None or bound is None or not 0 < bound < math.inf:
        return 0.0
    return value / bound


def _bars(caption: str, streams: Sequence[_Bound]) -> Element | None:
    if not streams:
        return None
    header = ("stream", "distance", "value", "threshold", "")
    return table(caption, header, [_stream(each) for each in streams], class_="bars")


def _stream(worst: _Bound) -> Element:
    exceeds, rail, stream = worst
    name, statistic = stream["tensor"], stream.get("statistic", "psi")
    if rail:
        told = (
            f"{rail} rail {percent(stream[f'{rail}_ratio'])}",
            percent(stream[f"{rail}_threshold"]),
        )
    else:
        value = f"{STATISTICS.get(statistic, statistic)} {number(stream.get(statistic))}"
        told = (value, number(stream.get("threshold")))
    bar = _bar(exceeds, f"{exceeds:.0%} of the threshold")
    is_active = stream.get("active", exceeds > 1)
    return row(name, path(name), bar, *told, _notes(stream), class_="over" if is_active else None)


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


def _notes(stream: Stream) -> str:
    """Where values gather at a rail, and where calibration would choose another range now."""
    notes = []
    for rail in RAILS:
        now, then = stream.get(f"{rail}_ratio"), stream.get(f"{rail}_reference")
        if now is not None and then is not None and now - then >= NOTABLE_RAIL:
            notes.append(f"{percent(now)} at the {rail} rail, {percent(then)} at calibration")
    scale = stream.get("scale_ratio")
    if scale and not 1 / NOTABLE_SCALE <= scale <= NOTABLE_SCALE:
        notes.append(f"calibration would choose {scale:.2f} of its range now")
    return "; ".join(notes)


def _health(inputs: Sequence[Mapping[str, Any]]) -> list[Element]:
    """What was wrong with frames as such, input by input."""
    return [_input(each) for each in inputs if each["frames"]]


def _input(health: Mapping[str, Any]) -> Element:
    frames, faults = health["frames"], health["faults"]
    told = [f"{fault.replace('_', ' ')} {count:,}" for fault, count in faults.items() if count]
    if health["identical_s"]:
        told.append(f"the same frame for {number(health['identical_s'])} s")
    is_notable = health["identical_s"] or sum(faults.values()) >= NOTABLE_FAULTS * frames
    return element(
        "p",
        element("strong", f"Input {health['tensor']}: "),
        f"of {plural(frames, 'frame')} {', '.join(told) or 'none was amiss'}",
        class_="health" if is_notable else "dim",
    )
