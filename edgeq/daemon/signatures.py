"""A drop, the configured keys and what was accepted before -> may it come in?"""

from __future__ import annotations

from pathlib import Path

from edgeq.daemon.deployment import Context
from edgeq.errors import DropError
from edgeq.intake.signature import Signed, verify
from edgeq.intake.watch import Candidate


def check_signature(
    context: Context, candidate: Candidate, copy: Path, sha256: str, sidecar_sha256: str
) -> Signed | None:
    """Return as what a drop was signed; None where no keys are configured.

    Args:
        context: the daemon's configuration and registry.
        candidate: what the scanner found.
        copy: the daemon's own copy of the model.
        sha256: of the copy.
        sidecar_sha256: of the sidecar as it was read, "" without one.

    Raises:
        DropError: stage 'signature'.
    """
    keys = context.config.security.keys
    if not keys:
        return None
    signed = verify(candidate.name, copy, candidate.signature, keys)
    _check_sidecar(signed, sidecar_sha256)
    _check_newer(context, signed, sha256)
    return signed


def _check_sidecar(signed: Signed, sidecar_sha256: str) -> None:
    """The sidecar sets the gate: whoever may change it decides what is served."""
    if signed.sidecar_sha256 == sidecar_sha256:
        return
    what = (
        f"its sidecar has the SHA-256 {sidecar_sha256}" if sidecar_sha256 else "it has no sidecar"
    )
    expected = signed.sidecar_sha256 or "none"
    word = f" sidecar:{sidecar_sha256}" if sidecar_sha256 else ""
    raise DropError(
        f"{what}; it was signed with {expected}",
        stage="signature",
        hint=f"Sign it with -t 'model:{signed.model} version:N{word}', or restore the sidecar.",
    )


def _check_newer(context: Context, signed: Signed, sha256: str) -> None:
    newest = context.registry.newest_signed(signed.model)
    if newest is None or signed.version > newest.version:
        return
    if signed.version == newest.version and sha256 == newest.sha256:
        return
    again = "another file was" if signed.version == newest.version else "a newer one was"
    raise DropError(
        f"it is signed as version {signed.version}; {again} accepted as {newest.version}",
        stage="signature",
        hint=f"Sign it with a higher version; `edgeq rollback {signed.model}` goes back here.",
    )
