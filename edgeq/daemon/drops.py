"""A settled candidate -> a drop to deploy, or a refusal in quarantine with its reason."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.config import Sidecar, read_sidecar
from edgeq.daemon.deployment import Context
from edgeq.errors import DropError, EdgeqError
from edgeq.intake.admit import Admitted, Unchanged, admit
from edgeq.intake.watch import Candidate
from edgeq.swap import LiveInfo
from edgeq.tflite.runtime import TensorSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Received:
    """What became of a candidate; without a drop there is nothing to deploy."""

    drop: Admitted | None = None
    sidecar: Sidecar | None = None
    refusal: DropError | None = None
    is_to_be_tried_again: bool = False  # the box was at fault, not the drop


def receive(context: Context, candidate: Candidate, live: LiveInfo | None) -> Received:
    """Admit a drop; a bad one goes to quarantine and is not tried again.

    Args:
        context: the daemon's registry, quarantine, metrics and configuration.
        candidate: what the scanner found.
        live: the version that serves under the same name, whose interface must be kept.
    """
    try:
        sidecar = _read_sidecar(candidate)
        outcome = admit(
            candidate,
            context.paths.staging,
            context.config.security.admit_options,
            lambda name, sha256: context.registry.drop_outcome(name, sha256) is not None,
            expected_sha256=sidecar.sha256,
        )
        if isinstance(outcome, Unchanged):
            context.metrics.drops.labels("unchanged").inc()
            return Received(sidecar=sidecar)
        _check_interface(live, outcome)
    except DropError as error:
        return _refused(context, candidate, error)
    context.metrics.drops.labels("accepted").inc()
    message = f"drop {outcome.sha256[:12]} was accepted"
    context.registry.record(candidate.name, "accepted", message)
    logger.info("drop accepted", extra={"model": candidate.name, "seconds": outcome.probe.load_s})
    return Received(outcome, sidecar)


def _refused(context: Context, candidate: Candidate, error: DropError) -> Received:
    name = candidate.name
    if error.stage == "settle":  # the scanner reports it again when it has rested
        return Received()
    if error.stage == "copy":
        logger.error(error.message, extra={"model": name, "hint": error.hint})
        return Received(is_to_be_tried_again=True)
    if error.sha256:
        context.registry.drop_seen(name, error.sha256, "quarantined")
    context.quarantine.put(
        name,
        error.sha256,
        candidate.path,
        stage=error.stage,
        error=error.message,
        hint=error.hint,
    )
    context.metrics.drops.labels("quarantined").inc()
    context.registry.record(name, "quarantined", error.message, stage=error.stage)
    fields = {"model": name, "stage": error.stage, "reason": error.message}
    logger.warning("drop quarantined", extra=fields)
    return Received(refusal=error)


def _read_sidecar(candidate: Candidate) -> Sidecar:
    if candidate.sidecar is None:
        return Sidecar()
    try:
        return read_sidecar(candidate.sidecar)
    except EdgeqError as error:
        raise DropError(error.message, stage="sidecar", hint=error.hint) from error


def _check_interface(live: LiveInfo | None, drop: Admitted) -> None:
    """Refuse a new version that would break the clients of the one that serves."""
    if live is None:
        return
    for what, old, new in (
        ("inputs", live.inputs, drop.probe.inputs),
        ("outputs", live.outputs, drop.probe.outputs),
    ):
        if _interface(old) != _interface(new):
            raise DropError(
                f"its {what} are {_interface(new)}; clients of the version that serves "
                f"use {_interface(old)}",
                stage="interface",
                hint="Drop a model with another interface under another name.",
                sha256=drop.sha256,
            )


def _interface(specs: Iterable[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} {spec.dtype} {list(spec.shape)}" for spec in specs)
