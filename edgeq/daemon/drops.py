"""A settled candidate -> a drop to deploy, or a refusal in quarantine with its reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edgeq.config import Sidecar, parse_sidecar
from edgeq.config.document import MAX_FILE_BYTES
from edgeq.daemon.copies import check_copy
from edgeq.daemon.deployment import Context
from edgeq.daemon.interface import described
from edgeq.daemon.signatures import check_signature
from edgeq.errors import ConfigError, DropError
from edgeq.intake import sandbox
from edgeq.intake.admit import Admitted, Unchanged, admit
from edgeq.intake.companion import read_companion
from edgeq.intake.watch import Candidate
from edgeq.swap import LiveInfo

logger = logging.getLogger(__name__)

MOST_TRIES = 4  # of a drop whose probe the kernel ends: the box has no room for it, and never will


@dataclass(frozen=True)
class Received:
    """What became of a candidate; without a drop there is nothing to deploy."""

    drop: Admitted | None = None
    sidecar: Sidecar | None = None
    refusal: DropError | None = None
    is_to_be_tried_again: bool = False  # the box was at fault, not the drop
    unchanged: str = ""  # SHA-256 of bytes that were tried before


def receive(context: Context, candidate: Candidate, *, is_asked_for: bool = False) -> Received:
    """Admit a drop; a bad one goes to quarantine and is not tried again.

    Takes as long as the probe's child may, and may be called on any thread.

    Args:
        context: the daemon's registry, quarantine, metrics and configuration.
        candidate: what the scanner found.
        is_asked_for: a person names these bytes: only those that were refused stay refused.
    """
    tried = ("quarantined",) if is_asked_for else ("quarantined", "accepted")
    try:
        _check_room(context, candidate.name)
        sidecar, sidecar_sha256 = _read_sidecar(candidate)
        outcome = admit(
            candidate,
            context.paths.staging,
            context.config.security.admit_options,
            lambda name, sha256: context.registry.drop_outcome(name, sha256) in tried,
            expected_sha256=sidecar.sha256,
            check_signature=lambda copy, sha256: check_signature(
                context, candidate, copy, sha256, sidecar_sha256
            ),
        )
    except DropError as error:
        return refuse(context, candidate, error)
    if isinstance(outcome, Unchanged):
        _note_signed(context, outcome)
        context.metrics.drops.labels("unchanged").inc()
        return Received(sidecar=sidecar, unchanged=outcome.sha256)
    try:
        check_copy(context, outcome, sidecar)
    except DropError as error:
        outcome.path.unlink(missing_ok=True)
        return refuse(context, candidate, error)
    return Received(outcome, sidecar)


def accept(
    context: Context, candidate: Candidate, received: Received, live: LiveInfo | None
) -> Received:
    """Check an admitted drop against what serves now, whose interface is to be kept.

    Args:
        context: as for `receive`.
        candidate: what the scanner found.
        received: what `receive` made of it.
        live: the version that serves under the same name.
    """
    drop, sidecar = received.drop, received.sidecar
    if drop is None or sidecar is None:
        return received
    try:
        _check_interface(live, drop, sidecar)
    except DropError as error:
        refused = refuse(context, candidate, error)
        drop.path.unlink(missing_ok=True)
        return refused
    _note_signed(context, drop)
    context.metrics.drops.labels("accepted").inc()
    message = f"drop {drop.sha256[:12]} was accepted"
    if drop.signed is not None:
        message += f", signed as version {drop.signed.version} by key {drop.signed.key}"
    context.events.record(candidate.name, "accepted", message)
    logger.info("drop accepted", extra={"model": candidate.name, "seconds": drop.probe.load_s})
    _warn_of_the_sandbox(candidate, drop)
    return received


def _warn_of_the_sandbox(candidate: Candidate, drop: Admitted) -> None:
    """Say where the child that opened the drop would not have held a hostile one."""
    if reasons := sandbox.lacks(drop.probe.sandbox):
        fields = {
            "model": candidate.name,
            "reason": "; ".join(reasons),
            "hint": sandbox.hint(drop.probe.sandbox),
        }
        logger.warning("drop was opened in a child that this box cannot confine", extra=fields)


def refuse(context: Context, candidate: Candidate, error: DropError) -> Received:
    """Put a drop into quarantine with its reason, unless the moment or the box was at fault."""
    name = candidate.name
    if error.stage == "settle":  # the scanner reports it again when it has rested
        return Received()
    fault = context.faults.note_error(error, "a drop waits", model=name)
    if error.stage == "copy" or (fault and context.drops_again.tries(name) < MOST_TRIES):
        if fault is None:
            logger.error(error.message, extra={"model": name, "hint": error.hint})
        return Received(refusal=error, is_to_be_tried_again=True)
    context.quarantine.put(  # first: where the disk refuses this, the drop is taken again
        name,
        error.sha256,
        _kept(candidate, error),
        stage=error.stage,
        error=error.message,
        hint=error.hint,
    )
    if error.sha256:
        context.registry.drop_seen(name, error.sha256, "quarantined")
    context.metrics.drops.labels("quarantined").inc()
    context.events.record(name, "quarantined", error.message, stage=error.stage)
    fields = {"model": name, "stage": error.stage, "reason": error.message}
    logger.warning("drop quarantined", extra=fields)
    return Received(refusal=error)


def _kept(candidate: Candidate, error: DropError) -> Path | None:
    """Return the file to keep in quarantine; none where the refusal is not about its bytes.

    What links to the outside must not bring that file in here, nor ten thousand names as many.
    """
    is_too_large = error.stage == "size" and not error.sha256
    return None if error.stage in ("name", "too many") or is_too_large else candidate.path


def _check_room(context: Context, name: str) -> None:
    """Refuse a name that is new where there are as many as may be: each has threads and a store."""
    names, most = context.registry.names(), context.config.intake.max_models
    if name not in names and len(names) >= most:
        raise DropError(
            f"there are {len(names)} models already; at most {most} are served",
            stage="too many",
            hint="Drop it under the name of one of them, or raise intake.max_models.",
        )


def _note_signed(context: Context, drop: Admitted | Unchanged) -> None:
    if drop.signed is not None:
        context.registry.note_signed(drop.name, drop.signed.version, drop.sha256)


def _read_sidecar(candidate: Candidate) -> tuple[Sidecar, str]:
    """Return the sidecar and its SHA-256, "" where there is none."""
    if candidate.sidecar is None:
        return Sidecar(), ""
    stamp = candidate.fingerprint.sidecar
    content = read_companion(candidate.sidecar, stamp, MAX_FILE_BYTES + 1)
    try:
        return parse_sidecar(candidate.sidecar, content)
    except ConfigError as error:
        raise DropError(error.message, stage="sidecar", hint=error.hint) from error


def _check_interface(live: LiveInfo | None, drop: Admitted, sidecar: Sidecar) -> None:
    """Refuse a new version that would break the clients of the one that serves."""
    if live is None or sidecar.interface == "replace":
        return
    for what, old, new in (
        ("inputs", live.inputs, drop.probe.inputs),
        ("outputs", live.outputs, drop.probe.outputs),
    ):
        if described(old) != described(new):
            raise DropError(
                f"its {what} are {described(new)}; clients of the version that serves "
                f"use {described(old)}",
                stage="interface",
                # Without the digest, for the bytes are not at fault: another sidecar lets them in.
                hint="Drop it under another name, or write `interface: replace` into its sidecar.",
            )
