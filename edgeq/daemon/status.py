"""The daemon's state -> the JSON of `GET /edgeq/status`."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import edgeq
from edgeq.bundle import REPORT
from edgeq.daemon.deployment import Context, Deployment, count_samples
from edgeq.daemon.series import INTERVAL_S
from edgeq.drift.state import TensorDrift
from edgeq.observe.metrics import Metrics
from edgeq.registry import Event, Version
from edgeq.samples.naming import stratum_in_words

EVENTS_SHOWN = 50
VERSIONS_SHOWN = 10  # of each model


def status(context: Context, deployments: list[Deployment], started: float) -> dict[str, Any]:
    """Return every model, the latest events, the quarantine, and what supervision found."""
    safe_mode = context.starts.safe_mode
    return {
        "edgeq": edgeq.__version__,
        "now": time.time(),
        "started": started,
        "safe_mode": safe_mode.as_status() if safe_mode else None,
        "stuck": [
            {"thread": name, "doing": doing, "seconds": round(seconds)}
            for name, (doing, seconds) in context.stuck.items()
        ],
        "models": {d.name: _model(context, d) for d in deployments},
        "events": [event_dict(event) for event in context.registry.events(EVENTS_SHOWN)],
        "quarantine": [asdict(entry) for entry in context.quarantine.entries()],
    }


def _model(context: Context, deployment: Deployment) -> dict[str, Any]:
    live, registry = deployment.slot.live, context.registry
    previous, versions = registry.previous(deployment.name), registry.versions(deployment.name)
    # Not the deployment's, which follows a moment after the swap.
    methods = {str(each.version): each.method for each in versions}
    return {
        "live": {
            "version": live.version,
            "engine": live.engine,
            "since": live.since,
            "method": methods.get(live.version, deployment.method),
            "fault": live.fault,  # of a GPU, whose place the CPU took
            "batching": live.batching,
        }
        if live
        else None,
        "state": deployment.state,
        "reason": deployment.reason,
        "progress": deployment.progress,
        "build": _build(deployment),
        "build_again": _build_again(context, deployment),
        "previous": str(previous.version) if previous else None,
        "versions": [_version(context, each) for each in versions[:VERSIONS_SHOWN]],
        "pinned": registry.is_pinned(deployment.name),
        "probation": _probation(deployment),
        "drift": _drift(deployment),
        "samples": _samples(context, deployment),
        "latency": _latency(context.metrics, deployment),
        "health": asdict(deployment.slot.health),
        "queue_length": deployment.slot.queue_length,
        "series": _series(deployment),
    }


def _build(deployment: Deployment) -> dict[str, Any] | None:
    """What is being built, or waits to be, and why."""
    job = deployment.building
    return {"cause": job.cause, "model_sha256": job.sha256} if job else None


def _build_again(context: Context, deployment: Deployment) -> dict[str, Any] | None:
    """How often a build failed for the box's sake, and when it is tried again."""
    in_s = context.builds_again.due_in_s(deployment.name)
    if in_s is None:
        return None
    return {"tries": context.builds_again.tries(deployment.name), "in_s": round(in_s, 1)}


def _version(context: Context, version: Version) -> dict[str, Any]:
    """One version, newest first, without where it lies."""
    return {
        "version": str(version.version),
        "engine": version.engine,
        "method": version.method,
        "state": version.state,
        "reason": version.reason,
        "created": version.created,
        "model_sha256": version.model_sha256,
        "has_report": (context.paths.bundle(version.name, version.version) / REPORT).is_file(),
    }


def _series(deployment: Deployment) -> dict[str, Any]:
    """The last hour: `points` of time, version, engine, requests, p50_ms, p99_ms."""
    series = deployment.series
    return {
        "interval_s": INTERVAL_S,
        "points": [list(point) for point in series.points],
        "swaps": [mark._asdict() for mark in series.swaps],
    }


def _samples(context: Context, deployment: Deployment) -> dict[str, Any]:
    options = context.config.samples
    return {
        **count_samples(context, deployment.store),
        "bytes": deployment.store.bytes,
        "minimum": options.minimum,
        "maximum": options.maximum,
        "strata": [
            {"name": stratum_in_words(each.name), "samples": each.samples}
            for each in deployment.store.strata()
        ],
    }


def _probation(deployment: Deployment) -> dict[str, Any] | None:
    """What is known of the watched version, and of the one before it."""
    probation = deployment.probation
    if probation is None:
        return None
    version, shadow = probation.version, probation.shadow
    return {
        "version": str(version.version),
        "before": str(probation.before.version),
        "ends_in_s": round(max(0.0, probation.ends - time.monotonic()), 1),
        "is_same_model": probation.is_same_model,
        "health": asdict(deployment.slot.health),
        "latency": asdict(deployment.latencies.of(version.version, version.engine)),
        "latency_before": asdict(probation.latency_before),
        "shadow": asdict(shadow.report) if shadow else None,
    }


def _drift(deployment: Deployment) -> dict[str, Any] | None:
    state, watch = deployment.drift, deployment.monitor
    if state is None:
        return None
    return {
        "active": state.active,
        "reason": state.reason,
        "unfit": state.unfit,
        "recalibration": deployment.recalibration,
        "samples": state.frames,
        "tensors": [_stream(tensor) for tensor in state.tensors],
        "health": [asdict(health) for health in watch.health()] if watch else [],
    }


def _stream(drift: TensorDrift) -> dict[str, Any]:
    """Return a stream's drift as JSON can hold it: an infinite threshold is none."""
    shown = {"value": drift.value, **vars(drift)}
    return {key: None if value == math.inf else value for key, value in shown.items()}


def _latency(metrics: Metrics, deployment: Deployment) -> dict[str, float | int] | None:
    """The live version's inference time since it was published, from the metric's buckets."""
    live = deployment.slot.live
    if live is None:
        return None
    return metrics.latency(deployment.name, live.version, live.engine)


def event_dict(event: Event) -> dict[str, Any]:
    """Return an event as JSON can hold it."""
    return asdict(event)
