"""The metrics there are, and those that a PromQL expression names."""

from __future__ import annotations

import re

from edgeq.observe.board import QUANTITIES, Reading
from edgeq.observe.metrics import Metrics

# Prometheus' own, and what it adds to each target.
PROMETHEUS = {"up", "scrape_duration_seconds", "scrape_samples_scraped"}
NAME = re.compile(r"(?<![\w:.$])(?:edgeq|process)_[a-z0-9_]+|(?<![\w:.$])up(?=[{\s)=])")
SUFFIXES = ("_bucket", "_count", "_sum")


def exposed() -> set[str]:
    """The names under which a daemon's metrics are scraped, whether they have a series or not."""
    metrics = Metrics("0.1.0", "runtime")
    metrics.watch_board(lambda: ([Reading(name, "x", 1.0) for name in QUANTITIES], {"gpu": True}))
    names = set()
    for family in metrics.registry.collect():
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
        if family.type == "histogram":
            names |= {family.name + suffix for suffix in SUFFIXES}
    return names


def named(expression: str) -> set[str]:
    """The metrics that an expression names; what a rule recorded has colons, and is none."""
    without_labels = re.sub(r"\b(?:by|on|ignoring|without)\s*\([^)]*\)", "", expression)
    without_values = re.sub(r'"[^"]*"|\'[^\']*\'', '""', without_labels)
    return set(NAME.findall(re.sub(r"\S*:\S*:\S*", "", without_values)))
