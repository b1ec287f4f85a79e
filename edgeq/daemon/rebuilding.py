"""A version that another box or edgeq built -> built again while it serves, or float instead of it.

What is committed serves as long as it reproduces its golden answers here; that it was calibrated,
refined, tuned and proven elsewhere is no reason to stop it, but one to do all that again. Used by
the deploy thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edgeq import files
from edgeq.bundle import Bundle
from edgeq.daemon.deployment import Context, Deployment
from edgeq.daemon.jobs import build_key
from edgeq.engines.origin import differences
from edgeq.errors import BundleError, EdgeqError, RegistryError
from edgeq.intake.admit import Admitted
from edgeq.intake.child import run_probe
from edgeq.registry import Version

logger = logging.getLogger(__name__)

Serve = Callable[[Deployment, Admitted], EdgeqError | None]
BUILT_NOWHERE = ("float", "as-is")  # methods of versions that are a drop as it came


def why_foreign(context: Context, deployment: Deployment, bundle: Bundle) -> str:
    """Return what is another than when a bundle was built, "" where it may be trusted."""
    if bundle.manifest.method in BUILT_NOWHERE:
        return ""
    found = differences(bundle.manifest, context.root)
    is_watched = context.config.drift.policy != "off" and bundle.has("drift.npz")
    if is_watched and deployment.monitor is None:
        found = (*found, "its drift reference cannot be read by this edgeq")
    return "; ".join(found)


def tell_of_foreign(context: Context, deployment: Deployment) -> None:
    """Say once, at a start, that the version which serves is to be built again, and why."""
    if not deployment.foreign:
        return
    count, least = len(deployment.store), context.config.samples.minimum
    when = "now" if count >= least else f"once there are {least} samples; there are {count}"
    message = f"built elsewhere: {deployment.foreign}; it serves on, and is built again {when}"
    version = int(deployment.version)
    context.events.record(deployment.name, "foreign", message, version=version)
    fields = {"model": deployment.name, "version": version, "reason": deployment.foreign}
    logger.warning("built elsewhere, to be built again", extra=fields)


def was_refused(context: Context, deployment: Deployment) -> bool:
    """True where a build of the live version's model failed before: its bytes would not do now."""
    registry, name, sha256 = context.registry, deployment.name, deployment.model_sha256
    if registry.drop_outcome(name, build_key(sha256)):
        return True
    return any(
        version.model_sha256 == sha256
        and version.state in ("rejected", "rolled_back")
        and version.engine != "float"
        and not registry.drop_outcome(name, _unfit_key(version))
        for version in registry.versions(name)
    )


def note_unfit(context: Context, version: Version) -> None:
    """Remember of a version that could not be restored whether a build may do better.

    It may where the bundle is damaged, of a newer edgeq, or was proven under other conditions; a
    build of here that does not do here would not do again.
    """
    path = context.paths.bundle(version.name, version.version)
    try:
        manifest = Bundle.open(path).manifest
    except BundleError:
        is_unfit = True
    else:
        is_unfit = bool(differences(manifest, context.root))
    if is_unfit:
        try:
            context.registry.drop_seen(version.name, _unfit_key(version), "accepted")
        except RegistryError as error:
            context.faults.note_error(error, model=version.name)


def _unfit_key(version: Version) -> str:
    """Return the registry's key for "this version says nothing about another build"."""
    return f"unfit:{version.version}"


def serve_anew(context: Context, deployment: Deployment, serve: Serve, reason: str) -> bool:
    """Serve the float model of a bundle as a drop where no version can be served any more.

    Its golden answers are then of this box. Not for what hung, and not in safe mode.
    """
    name, registry = deployment.name, context.registry
    live, versions = registry.live(name), registry.versions(name)
    is_hung = any(context.starts.hung(name, version.version) for version in versions)
    if live is None or is_hung or context.starts.safe_mode is not None:
        return False
    drop = _salvage(context, versions)
    if drop is None or serve(deployment, drop) is not None:
        return False
    registry.set_state(name, live.version, "rolled_back", reason)
    message = f"version {deployment.version} is the float model out of a bundle: {reason}"
    context.events.record(name, "salvaged", message, version=int(deployment.version))
    return True


def _salvage(context: Context, versions: list[Version]) -> Admitted | None:
    """Return the float model out of the newest bundle that still has it, opened in a child."""
    for version in versions:
        path = context.paths.bundle(version.name, version.version) / "float.tflite"
        try:
            return _opened_again(context, path, version)
        except (EdgeqError, OSError) as error:
            fields = {"model": version.name, "version": version.version, "reason": str(error)}
            logger.warning("its float model is of no use", extra=fields)
    return None


def _opened_again(context: Context, path: Path, version: Version) -> Admitted:
    target = context.paths.staging / f"salvaged-{version.version}.tflite"
    maximum = context.config.security.max_model_bytes
    with path.open("rb") as source:
        copied = files.copy_durably(source, target, max_bytes=maximum)
    if copied is None or copied[0] != version.model_sha256:
        target.unlink(missing_ok=True)
        raise BundleError(f"{path} is not the model that was admitted")
    try:
        probe = run_probe(target, context.config.security.admit_options.limits)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Admitted(version.name, target, copied[0], copied[1], probe)
