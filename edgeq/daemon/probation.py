"""A version that was just published, beside the one before it -> may it stay?

Errors and NaN are counted by the slot, times are recorded with every inference, and the version
before answers a share of the requests once more (swap/shadow.py). A breadcrumb in the registry
says what is watched: a restart begins the watch anew, and a version under which the daemon died
three times is taken back before it is loaded a fourth time (RAUC's boot attempts).
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgeq.bundle import Bundle
from edgeq.daemon.deployment import Context, Deployment, Probation
from edgeq.daemon.loading import bundle_bytes, load_engine
from edgeq.engines.base import Engine
from edgeq.engines.table import load_float
from edgeq.errors import EdgeqError, RegistryError
from edgeq.swap import (
    Latency,
    ProbationOptions,
    Shadow,
    ShadowOptions,
    ShadowReport,
    latency_verdict,
    probation_verdict,
    shadow_verdict,
)
from edgeq.swap.memory import available_memory

logger = logging.getLogger(__name__)

MAX_DEATHS = 3  # of the daemon, while a version is on probation


@dataclass(frozen=True)
class Finding:
    """What the watch says of a version now."""

    is_over: bool  # the window has passed
    verdict: str  # why it is to be taken back, "" where it may stay
    figures: str  # in words


class ProbationWatch:
    """Used by the deploy thread only."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ended: set[str] = set()  # models whose breadcrumb the disk has kept

    # ---- the breadcrumb

    def note(self, deployment: Deployment, version: int, *, is_same_interface: bool) -> None:
        """Leave the breadcrumb, before the version is committed; none where it is the first."""
        registry, name = self._context.registry, deployment.name
        before = registry.live(name)
        self._ended.discard(name)
        if before is not None:
            latency = deployment.latencies.of(before.version, before.engine)
            registry.note_probation(
                name,
                version,
                before=before.version,
                is_same_interface=is_same_interface,
                latency=asdict(latency),
                deaths=0,
            )

    def died_too_often(self, name: str) -> str:
        """Count a start in mid-probation; return why to leave the version, or ""."""
        registry = self._context.registry
        note, live = self._noted(name), registry.live(name)
        if note is None or live is None:
            return ""
        deaths = note["deaths"] = note["deaths"] + 1
        if deaths >= MAX_DEATHS:
            return f"the daemon died {deaths} times in the probation of version {live.version}"
        self._write(name, live.version, note)
        return ""

    def _noted(self, name: str) -> dict[str, Any] | None:
        """Return the breadcrumb; None also for one of another edgeq, which it means nothing to."""
        note = self._context.registry.probation(name)
        try:
            return note and {
                "before": int(note["before"]),
                "is_same_interface": bool(note["is_same_interface"]),
                "latency": asdict(Latency(**note["latency"])),
                "deaths": int(note["deaths"]),
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fields = {"model": name, "reason": repr(error)}
            logger.warning("the note of a probation cannot be read", extra=fields)
            return None

    def _write(self, name: str, version: int, note: dict[str, Any]) -> None:
        """Count deaths where the disk allows; one that is full is no reason not to serve."""
        try:
            self._context.registry.note_probation(name, version, **note)
        except RegistryError as error:
            if self._context.faults.note_error(error) is None:
                raise

    def stop(self, deployment: Deployment) -> None:
        """End the watch for now: the breadcrumb stays, and this was no death."""
        name = deployment.name
        if deployment.probation is not None:
            note, version = self._noted(name), deployment.probation.version.version
            if note is not None:
                self._write(name, version, {**note, "deaths": 0})
        self._drop(deployment)

    # ---- the watch

    def begin(self, deployment: Deployment) -> bool:
        """Watch the live version as the breadcrumb says; False where it is not on probation."""
        self._drop(deployment)
        registry, name = self._context.registry, deployment.name
        note, live = self._noted(name), registry.live(name)
        if note is None or live is None or deployment.unrecorded is not None:
            return False
        try:
            before = registry.version(name, note["before"])
        except EdgeqError:  # removed meanwhile: there is nothing to go back to
            registry.end_probation(name)
            return False
        ends = time.monotonic() + self._context.config.swap.probation.window_s
        watched = Probation(live, before, ends, Latency(**note["latency"]))
        shadow = self._shadow(deployment, watched) if note["is_same_interface"] else None
        deployment.probation = Probation(live, before, ends, watched.latency_before, shadow)
        return True

    def look(self, deployment: Deployment) -> Finding:
        """Judge what the version did until now."""
        probation = deployment.probation
        assert probation is not None
        options, health = self._context.config.swap.probation.options, deployment.slot.health
        new = deployment.latencies.of(probation.version.version, probation.version.engine)
        report = probation.shadow.report if probation.shadow else ShadowReport()
        limits = deployment.sidecar.probation
        if limits.max_latency_ratio is not None:
            options = replace(options, max_latency_ratio=limits.max_latency_ratio)
        verdicts = [probation_verdict(health, options)]
        if self._is_bound(probation, limits.max_latency_ratio):
            verdicts.append(latency_verdict(new, _slower(probation, report), options))
        if self._is_bound(probation, limits.max_disagreement_ratio):
            verdicts.append(shadow_verdict(report))
        reasons = "; ".join(verdict for verdict in verdicts if verdict)
        numbers = f"version {probation.version.version} after version {probation.before.version}"
        self._export(deployment, report)
        return Finding(
            is_over=time.monotonic() >= probation.ends,
            verdict=f"{numbers}: {reasons}" if reasons else "",
            figures=f"{numbers}: {_figures(health.requests, new, probation, report)}",
        )

    def end(self, deployment: Deployment) -> None:
        """Forget the breadcrumb, and free the previous version's engine."""
        self._drop(deployment)
        self._ended.add(deployment.name)
        self.end_late(deployment)

    def end_late(self, deployment: Deployment) -> None:
        """Forget the breadcrumb that the disk kept: a death from now on is not in its probation."""
        name = deployment.name
        if name not in self._ended:
            return
        try:
            if deployment.probation is None:
                self._context.registry.end_probation(name)
            self._ended.discard(name)
        except RegistryError as error:  # until then it would be watched again after a restart
            if self._context.faults.note_error(error) is None:
                raise

    # ---- parts

    def _is_bound(self, probation: Probation, own_limit: float | None) -> bool:
        """Another model may rightly be slower and of another opinion, unless a person says no."""
        across = self._context.config.swap.probation.across_models
        return probation.is_same_model or across or own_limit is not None

    def _drop(self, deployment: Deployment) -> None:
        probation, deployment.probation = deployment.probation, None
        if probation is not None and probation.shadow is not None:
            probation.shadow.close()

    def _shadow(self, deployment: Deployment, watched: Probation) -> Shadow | None:
        """Load the version before beside the live one, if the memory for it is there."""
        config, name = self._context.config, deployment.name
        if config.swap.probation.shadow_ratio == 0 or self._context.starts.safe_mode is not None:
            return None
        try:
            before = Bundle.open(self._context.paths.bundle(name, watched.before.version))
            judge = self._judge(deployment, watched)
        except EdgeqError as error:
            logger.warning("no shadow", extra={"model": name, "reason": error.message})
            return None
        memory, needed = available_memory(self._context.root), bundle_bytes(before)
        if memory is not None and needed > memory.available:
            reason = f"it needs about {needed} bytes, {memory.available} are left: {memory.bound}"
            logger.warning("no shadow", extra={"model": name, "reason": reason})
            return None
        load = functools.partial(load_engine, before, config.swap.threads)
        shadow = Shadow(str(watched.version.version), load, judge, self._options(deployment))
        shadow.start()
        return shadow

    def _judge(self, deployment: Deployment, watched: Probation) -> Callable[[], Engine] | None:
        """Return what loads the float model behind two INT8 versions, None where there is none."""
        if not watched.is_same_model or "float" in (watched.before.engine, watched.version.engine):
            return None
        bundle = Bundle.open(self._context.paths.bundle(deployment.name, watched.version.version))
        threads = self._context.config.swap.threads

        def load() -> Engine:
            return load_float(bundle.read("float.tflite"), threads=threads)

        return load if watched.version.method != "as-is" else None

    def _options(self, deployment: Deployment) -> ShadowOptions:
        """The limits, never below what the gate lets an engine differ from float."""
        config, sidecar = self._context.config, deployment.sidecar
        own = sidecar.probation.max_disagreement_ratio
        limit = config.swap.probation.max_disagreement_ratio
        gate = {**config.verify.model_dump(), **sidecar.gate.model_dump(exclude_none=True)}
        choices, cosine = (max(limit, 1.0 - gate[key]) for key in ("agreement", "cosine"))
        return ShadowOptions(
            ratio=config.swap.probation.shadow_ratio,
            max_other_choices=choices if own is None else own,
            max_cosine_distance=cosine if own is None else own,
            task=sidecar.task,
        )

    def _export(self, deployment: Deployment, report: ShadowReport) -> None:
        if report.compared:
            gauge = self._context.metrics.shadow_disagreement
            gauge.labels(deployment.name).set(report.disagreement)


def _slower(probation: Probation, report: ShadowReport) -> Latency:
    """The previous version's times: before the swap, or, where the box is busier now, meanwhile."""
    return max(probation.latency_before, report.latency, key=_timed_enough)


def _timed_enough(latency: Latency) -> tuple[bool, float]:
    return latency.requests >= ProbationOptions.min_timed, latency.median_s


def _figures(requests: int, new: Latency, probation: Probation, report: ShadowReport) -> str:
    parts = [f"{requests} requests"]
    before = _slower(probation, report)
    if new.requests and before.requests:
        parts.append(f"{new.median_s * 1e3:.3g} ms, before {before.median_s * 1e3:.3g} ms")
    if report.compared:
        parts.append(f"{report.disagreement:.1%} disagreement over {report.compared}")
    if report.problem:
        parts.append(report.problem)
    return ", ".join(parts)
