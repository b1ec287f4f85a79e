"""Everything that was seen -> violations that only the end shows, and figures."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tools.soaking.box import Box
from tools.soaking.clients import Client
from tools.soaking.journal import Journal
from tools.soaking.monitor import Held, Monitor
from tools.soaking.plan import MODELS

MIB = 1 << 20
WARM_S = 30.0  # of each life: until every model has built once
RSS_GROWTH_RATIO = 1.15  # of a life's last third over its middle one
RSS_GROWTH_BYTES = 16 * MIB
RSS_LIMIT_BYTES = 400 * MIB  # three small models, the engines before them, and what a flood holds
DESCRIPTORS_LIMIT = 260  # the crowd of an overload, slow clients, and the daemon's own
DESCRIPTORS_GROWTH = 30
THREADS_LIMIT = 60
THREADS_GROWTH = 8
CHILDREN_LIMIT = 4  # a build, a probe, and `edgeq status` of the soak's own
DISK_LIMIT_BYTES = 48 * MIB
METRICS_LIMIT = 6000  # lines: three models, the versions that are kept, refused drops' names
BUNDLES_KEPT = 5 + 2  # of each model: what is kept, and what is live or was before
QUARANTINE_KEPT = 50
ROLLBACK_GRACE_S = 5.0
TEMPORARY = re.compile(r"\.tmp-|\.part$")
LOG_FAULTS = ("Traceback", "unexpected failure", "Segmentation", "Fatal Python error")


def judge_held(monitor: Monitor, journal: Journal) -> None:
    """Hold every life to its ceilings, and the longer ones to their slope."""
    ceilings = (("rss_bytes", RSS_LIMIT_BYTES), ("descriptors", DESCRIPTORS_LIMIT),
                ("threads", THREADS_LIMIT), ("disk_bytes", DISK_LIMIT_BYTES),
                ("children", CHILDREN_LIMIT), ("metrics", METRICS_LIMIT))  # fmt: skip
    for name, limit in ceilings:
        if (most := max(getattr(held, name) for held in monitor.held)) > limit:
            journal.violate(f"{name} beyond its ceiling", f"{most} of {limit}")
    for life in lives(monitor.held):
        _judge_growth(life, journal)


def lives(held: Sequence[Held]) -> list[list[Held]]:
    """Return what was held in each life of the daemon."""
    numbers = sorted({each.life for each in held})
    return [[each for each in held if each.life == number] for number in numbers]


def _judge_growth(life: Sequence[Held], journal: Journal) -> None:
    begun = life[0].at_s
    warm = [held for held in life if held.at_s - begun >= WARM_S]
    if len(warm) < 30:  # nothing can be said of a short life
        return
    third = len(warm) // 3
    allowed = (("rss_bytes", RSS_GROWTH_BYTES), ("descriptors", DESCRIPTORS_GROWTH),
               ("threads", THREADS_GROWTH))  # fmt: skip
    for name, more in allowed:
        middle, last = (
            statistics.median(getattr(held, name) for held in part)
            for part in (warm[third : 2 * third], warm[2 * third :])
        )
        if last > middle + more and last > middle * RSS_GROWTH_RATIO:
            seconds = round(life[-1].at_s - begun)
            journal.violate(f"{name} grow", f"{middle} -> {last} in a life of {seconds} s")


def judge_versions(clients: Iterable[Client], box: Box, journal: Journal) -> None:
    """Let a client see an older version only after a rollback, or what a crash or full disk undid.

    A version may answer a moment before it is committed: after a kill, or where the commit fails,
    the one before it serves again.
    """
    rollbacks: dict[str, list[float]] = {}
    for name in MODELS:
        events = box.history(name)["events"]
        told = [e["time"] for e in events if e["kind"] in ("rolled_back", "failed")]
        rollbacks[name] = told
        # Of a long soak the oldest are not listed any more.
        rollbacks.setdefault(f"{name} since", []).append(min(e["time"] for e in events))
    for client in clients:
        for (before, version), (at, model, now) in _steps(client):
            listed_since = rollbacks[f"{model} since"][0]
            is_told = any(before - ROLLBACK_GRACE_S <= t <= at + 1 for t in rollbacks[model])
            if now < version and not (
                is_told or before < listed_since or journal.undid(before, at)
            ):
                journal.violate("an older version answers", f"{model}: {version}, then {now}")


def _steps(client: Client) -> Iterable[tuple[tuple[float, int], tuple[float, str, int]]]:
    last: dict[str, tuple[float, int]] = {}
    for at, model, version in client.seen:
        if model in last:
            yield last[model], (at, model, version)
        last[model] = (at, version)


def judge_folders(box: Box, journal: Journal) -> dict[str, int]:
    """Look at what a stopped daemon left on the disk; return how much of each kind."""
    left = [str(p.relative_to(box.state)) for p in box.state.rglob("*") if TEMPORARY.search(p.name)]
    for folder in ("staging", "building"):
        found = box.state / folder
        left += [str(p) for p in found.iterdir()] if found.is_dir() else []
    if left:
        journal.violate("temporary files are left", left[:5])
    counts = {"quarantined": len(list((box.state / "quarantine").glob("[!.]*")))}
    if counts["quarantined"] > QUARANTINE_KEPT:
        journal.violate("the quarantine is not bounded", counts["quarantined"])
    for name in MODELS:
        counts[f"bundles of {name}"] = len(list((box.state / "bundles" / name).glob("[!.]*")))
        if counts[f"bundles of {name}"] > BUNDLES_KEPT:
            journal.violate("bundles are not bounded", counts)
    return counts


def judge_log(box: Box, journal: Journal) -> None:
    """Look for what a log must not hold."""
    text = box.log.read_text(errors="replace")
    for fault in LOG_FAULTS:
        if (at := text.find(fault)) >= 0:
            journal.violate(f"the log holds {fault!r}", text[max(0, at - 200) : at + 1500])


def figures_of(held: Sequence[Held]) -> dict[str, Any]:
    """Return the first, largest and last of what was held."""
    if not held:
        return {}
    return {
        name: {
            "start": getattr(held[0], name),
            "max": max(getattr(each, name) for each in held),
            "end": getattr(held[-1], name),
        }
        for name in ("rss_bytes", "descriptors", "threads", "disk_bytes", "children", "metrics")
    }
