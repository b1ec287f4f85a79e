"""What was not finished, refused, or failed for the box's sake -> what is kept and noted of it."""

from __future__ import annotations

import contextlib

from edgeq.daemon.deployment import Context, Deployment
from edgeq.errors import DropError, RegistryError
from edgeq.intake.admit import Admitted
from edgeq.observe.metrics import FaultKind


def retire_unfinished(context: Context, name: str) -> None:
    """Retire the versions that a stop kept from being published."""
    registry = context.registry
    with contextlib.suppress(RegistryError):  # a disk that refuses it: then at the next start
        for version in registry.versions(name):
            if version.state in ("installed", "verified"):
                registry.set_state(name, version.version, "retired", "interrupted by a stop")


def keep_refused(context: Context, drop: Admitted, stage: str, error: str, hint: str) -> None:
    """Keep a drop that is not served, so that a person can have it tried again."""
    context.registry.drop_seen(drop.name, drop.sha256, "quarantined")
    context.metrics.drops.labels("quarantined").inc()
    try:
        context.quarantine.put(
            drop.name, drop.sha256, drop.path, stage=stage, error=error, hint=hint
        )
    except DropError as refusal:  # it is not served all the same
        context.faults.note_error(refusal, model=drop.name)


def postpone_build(context: Context, deployment: Deployment, fault: FaultKind, reason: str) -> str:
    """Have a build tried again later that the box, not the model, was at fault for."""
    name = deployment.name
    context.faults.note(fault, f"a build failed: {reason}", model=name)
    wait_s = context.builds_again.postpone(name)
    said = f"build failed, tried again in {wait_s:g} s: {reason}"
    context.events.record(name, "build failed", said)
    return said
