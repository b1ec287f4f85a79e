"""Bundles -> live versions: install, publish, commit, restore after a start, roll back."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq import files
from edgeq.bundle import Bundle, Manifest
from edgeq.daemon.deployment import Context, Deployment
from edgeq.daemon.dropped import kind_and_method, write_dropped
from edgeq.daemon.faults import kind_of
from edgeq.daemon.interface import interface_change, keep_samples_that_fit
from edgeq.daemon.loading import (
    Restriction,
    bundle_bytes,
    golden_of,
    load_engine,
    load_restricted,
)
from edgeq.daemon.probation import ProbationWatch
from edgeq.daemon.rebuilding import note_unfit, why_foreign
from edgeq.daemon.starts import MOST_HANGS
from edgeq.daemon.watching import watch_over
from edgeq.errors import EdgeqError, RegistryError, SwapError
from edgeq.intake.admit import Admitted
from edgeq.registry import Version
from edgeq.swap import LiveInfo
from edgeq.swap.memory import Choice, available_memory, choose_policy

logger = logging.getLogger(__name__)

BUNDLES_KEPT = 5  # of each model, the live and the previous one included


@dataclass(frozen=True)
class Swap:
    """One switch of a slot to a version."""

    seconds: float
    choice: Choice
    before: LiveInfo | None
    now: LiveInfo

    @property
    def interface_change(self) -> str:
        """What clients must know, "" where inputs and outputs are as they were."""
        return interface_change(self.before, self.now) if self.before else ""


class Publisher:
    """Used by the deploy thread only."""

    def __init__(self, context: Context, watch: ProbationWatch) -> None:
        self._context = context
        self._watch = watch

    # ---- new versions

    def install_dropped(self, deployment: Deployment, drop: Admitted) -> None:
        """Serve a drop as it came: the float model, or one that arrived as INT8.

        Raises:
            EdgeqError: it could not be published; what served before still serves.
        """
        (kind, method), name = kind_and_method(drop), deployment.name
        registry, paths = self._context.registry, self._context.paths
        version = registry.add_version(name, model_sha256=drop.sha256, engine=kind, method=method)
        with self._finishing(name, version):
            self.publish(deployment, version, write_dropped(paths.bundle(name, version), drop))

    def install_built(self, deployment: Deployment, built: Path) -> None:
        """Take over the bundle that a build child wrote, and serve it.

        Raises:
            EdgeqError: it could not be published; what served before still serves.
        """
        manifest = Bundle.open(built).manifest
        registry, name = self._context.registry, deployment.name
        version = registry.add_version(
            name,
            model_sha256=manifest.model_sha256,
            engine=manifest.engine,
            method=manifest.method,
        )
        with self._finishing(name, version):
            registry.set_state(name, version, "verified")
            target = self._context.paths.bundle(name, version)
            files.make_directory(target.parent)
            files.publish_directory(built, target)
            self.publish(deployment, version, Bundle.open(target))

    @contextlib.contextmanager
    def _finishing(self, name: str, version: int) -> Iterator[None]:
        """Leave nothing of a version that could not be published, as far as the box allows."""
        registry = self._context.registry
        try:
            yield
        except (EdgeqError, OSError, MemoryError) as error:
            with contextlib.suppress(RegistryError):
                if registry.version(name, version).state in ("installed", "verified"):
                    registry.set_state(name, version, "retired", f"not published: {error}")
            with contextlib.suppress(OSError, RegistryError):
                live = registry.live(name)
                if live is None or live.version != version:
                    files.remove_tree(self._context.paths.bundle(name, version))
            raise

    def publish(self, deployment: Deployment, version: int, bundle: Bundle) -> None:
        """Load, warm, check, switch and drain; then make the version the committed one.

        Raises:
            SwapError: the new engine was not published; what was live is live.
        """
        registry, metrics, name = self._context.registry, self._context.metrics, deployment.name
        try:
            swap = self._put_in_slot(deployment, version, bundle)
        except SwapError as error:
            if kind_of(error) is None:  # the version's own fault
                registry.set_state(name, version, "rejected", error.message)
                self._context.events.record(name, "rejected", error.message, version=version)
            metrics.swaps.labels(name, "rejected").inc()
            raise
        self._commit(deployment, version, is_same_interface=not swap.interface_change)
        self._record_commit(name, version, bundle.manifest, swap)
        self._took_over(deployment, bundle, swap)
        metrics.swaps.labels(name, "committed").inc()
        metrics.swap_duration.labels(name).observe(swap.seconds)
        self._forget_old(name)

    def _record_commit(self, name: str, version: int, manifest: Manifest, swap: Swap) -> None:
        choice = swap.choice
        self._context.events.record(
            name,
            "committed",
            f"version {version} serves ({manifest.engine}, {manifest.method})",
            version=version,
            seconds=round(swap.seconds, 4),
            policy=choice.policy,
            policy_reason=choice.reason,
            needed_bytes=choice.needed,
            available_bytes=choice.available,
        )
        fields = {"model": name, "version": version, "engine": manifest.engine}
        policy = f"{choice.policy}: {choice.reason}"
        logger.info("published", extra={**fields, "seconds": swap.seconds, "reason": policy})

    def _commit(self, deployment: Deployment, version: int, *, is_same_interface: bool) -> None:
        """Record what the slot serves; if that fails, the slot goes back to what is recorded."""
        registry, name = self._context.registry, deployment.name
        try:
            self._watch.note(deployment, version, is_same_interface=is_same_interface)
            registry.commit(name, version)
        except RegistryError:
            self._put_back(deployment)
            raise

    def _put_back(self, deployment: Deployment) -> None:
        """Let the slot serve what the registry says."""
        before = self._context.registry.live(deployment.name)
        if before is not None:
            bundle = Bundle.open(self._context.paths.bundle(deployment.name, before.version))
            self._put_in_slot(deployment, before.version, bundle)

    # ---- versions that were committed before

    def restore(self, deployment: Deployment) -> None:
        """Serve the last committed version again, or an older one if it no longer proves itself.

        Raises:
            SwapError: no version can be served.
        """
        registry, name = self._context.registry, deployment.name
        last_error = ""
        while (live := registry.live(name)) is not None:
            only = self._restriction(name, live.version)
            if only.allowed == "none":  # which says nothing about the version
                raise SwapError(
                    f"version {live.version} of {name!r} is not loaded: {only.reason}",
                    hint="See the log for why; a new drop, or a load by hand, is tried.",
                )
            try:
                bundle = Bundle.open(self._context.paths.bundle(name, live.version))
                swap = self._put_in_slot(deployment, live.version, bundle)
            except EdgeqError as error:
                last_error = error.message
                logger.error("not restored", extra=_fields(live, reason=error.message))
                note_unfit(self._context, live)
                before = registry.previous(name)
                if before is None:
                    break
                try:
                    self._record_rollback(registry.rollback(name, error.message), error.message)
                except RegistryError as refusal:
                    self._context.faults.note_error(refusal, "a rollback is not recorded")
                    deployment.unrecorded = (before.version, error.message)
                    self._serve_unrecorded(deployment, before)
                    return
            else:
                self._took_over(deployment, bundle, swap)
                logger.info("restored", extra=_fields(live))
                return
        raise SwapError(
            f"model {name!r} has no version that can be served: {last_error or 'none committed'}",
            hint=f"Drop {name}.tflite again.",
        )

    def _serve_unrecorded(self, deployment: Deployment, version: Version) -> None:
        """Serve a version while the registry, which takes no writes, goes on naming another."""
        bundle = Bundle.open(self._context.paths.bundle(deployment.name, version.version))
        self._took_over(deployment, bundle, self._put_in_slot(deployment, version.version, bundle))
        logger.warning("restored without a record", extra=_fields(version))

    def record_late(self, deployment: Deployment) -> None:
        """Record a rollback, or the end of a probation, that the disk refused to record.

        Raises:
            RegistryError: it still refuses the rollback.
        """
        self._watch.end_late(deployment)
        if deployment.unrecorded is not None:
            version, reason = deployment.unrecorded
            self._context.registry.rollback(deployment.name, reason, to=version)
            deployment.unrecorded = None

    def leave(self, name: str, reason: str) -> None:
        """Let `restore` begin with the version before, for the live one is not to be loaded."""
        registry = self._context.registry
        if registry.previous(name) is not None:
            self._record_rollback(registry.rollback(name, reason), reason)

    def reload(self, deployment: Deployment) -> None:
        """Load the live version once more beside itself, and switch.

        Raises:
            EdgeqError: it could not be loaded; what serves goes on.
        """
        live = self._context.registry.live(deployment.name)
        if live is not None:
            bundle = Bundle.open(self._context.paths.bundle(deployment.name, live.version))
            swap = self._put_in_slot(deployment, live.version, bundle)
            self._name_engine(deployment, swap.now)
            logger.info("reloaded", extra={**_fields(live), "seconds": swap.seconds})

    def rollback(
        self, deployment: Deployment, reason: str, to: int | None = None, *, is_bad: bool = False
    ) -> Version:
        """Publish the previous version (or `to`) and mark the live one rolled back.

        Args:
            deployment: the model.
            reason: for people.
            to: a version that was live before.
            is_bad: the live one must not serve on, even where that cannot be recorded now.

        Raises:
            RegistryError: there is no such version.
            EdgeqError: the older version cannot be served; the live one stays.
        """
        registry, name = self._context.registry, deployment.name
        target = registry.rollback_target(name, to)
        bundle = Bundle.open(self._context.paths.bundle(name, target.version))
        swap = self._put_in_slot(deployment, target.version, bundle)
        try:
            registry.rollback(name, reason, to=target.version)
        except RegistryError as error:
            if not is_bad or self._context.faults.note_error(error, "not recorded") is None:
                self._put_back(deployment)
                raise
            deployment.unrecorded = (target.version, reason)
        self._record_rollback(target, reason)
        self._took_over(deployment, bundle, swap)
        return target

    def _record_rollback(self, target: Version, reason: str) -> None:
        context = self._context
        message = f"went back to version {target.version}: {reason}"
        context.events.record(target.name, "rolled_back", message, version=target.version)
        context.metrics.swaps.labels(target.name, "rolled_back").inc()
        logger.warning("rolled back", extra=_fields(target, reason=reason))

    # ---- what serves

    def note_engine(self, deployment: Deployment, live: LiveInfo) -> None:
        """Say it where another engine answers than before: a GPU failed, or is well again.

        `live` is what served a moment ago, when it was seen; it may have changed once more.
        """
        serving = deployment.slot.live
        is_old = serving is None or serving.version != live.version
        if is_old or live.engine == deployment.noted_engine:
            return
        message = f"answers come from {live.engine}, not from {deployment.noted_engine} any more"
        reason = live.fault or "it is well again"
        self._name_engine(deployment, live)
        name, version = deployment.name, int(live.version)
        self._context.events.record(name, "engine", f"{message}: {reason}", version=version)
        fields = {"model": name, "version": version, "engine": live.engine, "reason": reason}
        logger.warning("engine changed", extra=fields)

    def _name_engine(self, deployment: Deployment, live: LiveInfo) -> None:
        deployment.noted_engine = live.engine
        name, method = deployment.name, deployment.method
        self._context.metrics.set_live(name, live.version, live.engine, method)

    # ---- parts

    def _put_in_slot(self, deployment: Deployment, version: int, bundle: Bundle) -> Swap:
        only = self._restriction(deployment.name, version)
        golden = golden_of(bundle, only)
        threads = self._context.config.swap.threads
        load = functools.partial(load_engine, bundle, threads)
        if only.allowed != "all":
            load = functools.partial(load_restricted, bundle, threads, only)
        before, choice = deployment.slot.live, self._choose_policy(deployment, bundle)
        seconds = deployment.slot.publish(str(version), load, golden, policy=choice.policy)
        now = deployment.slot.live
        assert now is not None
        return Swap(seconds, choice, before, now)

    def _restriction(self, name: str, version: int) -> Restriction:
        """Which engines of a version may be loaded: not those that hung, and few in safe mode."""
        starts = self._context.starts
        hung, safe_mode = starts.hung(name, version), starts.safe_mode
        if safe_mode is not None:
            return Restriction(safe_mode.allowed, f"safe mode: {safe_mode.reason}")
        if hung is None:
            return Restriction()
        reason = f"the {hung.engine} engine of version {version} hung"
        if hung.engine == "cuda-int8":
            return Restriction("cpu", reason)
        is_given_up = hung.times >= MOST_HANGS
        return Restriction("none" if is_given_up else "float", f"{reason}, {hung.times} times")

    def _choose_policy(self, deployment: Deployment, bundle: Bundle) -> Choice:
        """Choose by what a person says, else by whether the new engines fit beside the old ones."""
        options = self._context.config.swap
        policy = deployment.sidecar.policy or options.policy
        if deployment.slot.live is None:
            return Choice("load-then-drop", "nothing serves")
        if policy != "auto":
            return Choice(policy, "as configured")
        twin = options.max_batch if options.max_batch > 1 else 0  # its values are so many samples'
        needed = options.instances * (1 + twin) * bundle_bytes(bundle)
        return choose_policy(needed, available_memory(self._context.root))

    def _took_over(self, deployment: Deployment, bundle: Bundle, swap: Swap) -> None:
        deployment.method = bundle.manifest.method
        deployment.model_sha256 = bundle.manifest.model_sha256
        self._name_engine(deployment, swap.now)
        self._fit_samples(deployment, swap)
        watch_over(self._context, deployment, bundle)
        deployment.foreign = why_foreign(self._context, deployment, bundle)
        self._context.metrics.forget_drift(deployment.name)  # the streams may be others

    def _fit_samples(self, deployment: Deployment, swap: Swap) -> None:
        """Keep the samples apart by the inputs they are of, and say what that changed."""
        name, version = deployment.name, int(swap.now.version)
        try:
            done = keep_samples_that_fit(self._context, deployment, swap.now)
        except OSError as error:
            done = f"samples of other inputs could not be set aside: {error}"
        if said := "; ".join(part for part in (swap.interface_change, done) if part):
            self._context.events.record(name, "interface", said, version=version)
            fields = {"model": name, "version": version, "reason": said}
            logger.warning("interface changed", extra=fields)

    def _forget_old(self, name: str) -> None:
        """Remove the bundles and series of versions that nobody will go back to."""
        try:
            self._remove_old(name)
        except (OSError, RegistryError) as error:  # the next version's turn; this one serves
            self._context.faults.note_error(error, "an old version stays", model=name)

    def _remove_old(self, name: str) -> None:
        registry = self._context.registry
        serving = {v.version for v in (registry.live(name), registry.previous(name)) if v}
        for old in registry.versions(name)[BUNDLES_KEPT:]:
            if old.version not in serving:
                registry.remove_version(name, old.version)
                files.remove_tree(self._context.paths.bundle(name, old.version))
                self._context.metrics.forget_version(name, str(old.version))


def _fields(version: Version, reason: str = "") -> dict[str, object]:
    fields = {"model": version.name, "version": version.version, "engine": version.engine}
    return {**fields, "reason": reason} if reason else fields
