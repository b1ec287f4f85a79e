"""A version whose engine hangs, or under which the daemon dies -> what serves in its place."""

from __future__ import annotations

import logging

from edgeq.daemon.deployment import Context, Deployment
from edgeq.daemon.jobs import build_key
from edgeq.daemon.models import Models
from edgeq.daemon.probation import ProbationWatch
from edgeq.daemon.publisher import Publisher
from edgeq.errors import EdgeqError
from edgeq.registry import Version
from edgeq.swap import Hang

logger = logging.getLogger(__name__)

DROPPED_METHODS = ("float", "as-is")  # of versions that are a drop as it came


def remember_failure(context: Context, failed: Version, verdict: str, stage: str) -> None:
    """Do not try the same bytes again: a drop's, or those a build would make of its model."""
    registry, name = context.registry, failed.name
    registry.drop_seen(name, build_key(failed.model_sha256), "quarantined")
    if failed.method in DROPPED_METHODS:
        registry.drop_seen(name, failed.model_sha256, "quarantined")
        model = context.paths.bundle(name, failed.version) / "float.tflite"
        hint = f"Drop a mended model, or run `edgeq quarantine list` and retry {name}."
        context.quarantine.put(
            name, failed.model_sha256, model, stage=stage, error=verdict, hint=hint
        )


class Failures:
    """Used by the deploy thread only."""

    def __init__(
        self, context: Context, watch: ProbationWatch, publisher: Publisher, models: Models
    ) -> None:
        self._context = context
        self._watch = watch
        self._publisher = publisher
        self._models = models

    def why_to_leave(self, name: str) -> str:
        """Return why a start is not to load the live version of a model, "" where it may."""
        if reason := self._watch.died_too_often(name):
            return reason
        registry, starts = self._context.registry, self._context.starts
        live = registry.live(name)
        if live is None:
            return ""
        hung = starts.hung(name, live.version)
        if hung is not None and hung.engine != "cuda-int8" and not registry.is_pinned(name):
            reason = f"the {hung.engine} engine of version {live.version} hung"
            if registry.previous(name) is not None:
                remember_failure(self._context, live, reason, "serve")
            return reason
        if starts.safe_mode is not None and registry.probation(name) is not None:
            return f"version {live.version} was on probation; {starts.safe_mode.reason}"
        return ""

    def replace(self, deployment: Deployment, hang: Hang) -> None:
        """Serve something else than an engine that hung: the CPU's, the version before, float."""
        registry, name, version = self._context.registry, deployment.name, int(hang.version)
        self._context.events.record(name, "engine hung", hang.words, version=version)
        live = registry.live(name)
        if live is None or live.version != version:
            return  # an older one, whose successor serves
        self._watch.stop(deployment)
        is_of_gpu = hang.engine == "cuda-int8"
        if not is_of_gpu:
            self._forbid_build(deployment, live)
        try:
            if is_of_gpu or registry.is_pinned(name) or not self._roll_back(deployment, live, hang):
                self._publisher.reload(deployment)
            self._watch.end(deployment)
            self._models.refresh(deployment, hang.words)
        except EdgeqError as error:
            self._models.fail(deployment, error)

    def _forbid_build(self, deployment: Deployment, live: Version) -> None:
        if live.engine != "float":
            key = build_key(live.model_sha256)
            self._context.registry.drop_seen(deployment.name, key, "quarantined")

    def _roll_back(self, deployment: Deployment, failed: Version, hang: Hang) -> bool:
        """Publish the version before; False where there is none that can serve."""
        if self._context.registry.previous(deployment.name) is None:
            return False
        try:
            self._publisher.rollback(deployment, hang.words, is_bad=True)
        except EdgeqError as error:
            fields = {"model": deployment.name, "reason": error.message}
            logger.error("the version before cannot serve", extra=fields)
            return False
        remember_failure(self._context, failed, hang.words, "serve")
        return True

    def leave_safe_mode(self, *, is_asked_for: bool = False) -> None:
        """Load again what was committed, now with any engine."""
        starts = self._context.starts
        was, why = starts.safe_mode, "asked for" if is_asked_for else "edgeq was well for long"
        if was is None:
            return
        starts.leave(is_asked_for=is_asked_for)
        self._context.events.record("", "safe mode ended", why)
        logger.warning("safe mode ended", extra={"reason": why})
        for deployment in list(self._models.deployments.values()):
            if deployment.slot.live is not None and not deployment.slot.live.fault:
                self._models.settle(deployment)
                continue
            try:
                if deployment.slot.live is None:
                    self._publisher.restore(deployment)
                else:
                    self._publisher.reload(deployment)
                self._models.settle(deployment)
            except EdgeqError as error:
                self._models.fail(deployment, error)
