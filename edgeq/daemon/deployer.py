"""Drops, samples and drift -> builds; finished builds -> live versions. One thread, no locks.

Every method runs on the deploy thread, one after the other, so that a drop, a build's end and a
person's command can never interleave. What takes long (a build) runs in a child meanwhile.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from edgeq.daemon.builder import Builder, BuildJob, BuildLimits, BuildOutcome, Cause
from edgeq.daemon.deployment import Context, Deployment, State, make_deployment
from edgeq.daemon.drops import receive
from edgeq.daemon.publisher import Publisher
from edgeq.errors import EdgeqError, NotFoundError
from edgeq.intake.admit import Admitted
from edgeq.intake.quarantine import write_status
from edgeq.intake.watch import Candidate
from edgeq.registry import Version
from edgeq.swap import InferRecord, ProbationOptions, probation_verdict

logger = logging.getLogger(__name__)


class Deployer:
    """The life of every model under the daemon."""

    def __init__(
        self, context: Context, builder: Builder, on_infer: Callable[[InferRecord], None]
    ) -> None:
        self.deployments: dict[str, Deployment] = {}
        self.publisher = Publisher(context)
        self._context = context
        self._builder = builder
        self._on_infer = on_infer

    # ---- start and stop

    def restore(self) -> None:
        """Serve the last committed version of every model, and take up what was interrupted."""
        registry = self._context.registry
        for name in registry.names():
            for version in registry.versions(name):
                if version.state in ("installed", "verified"):
                    registry.set_state(name, version.version, "retired", "interrupted by a stop")
            deployment = self._open(name)
            try:
                self.publisher.restore(deployment)
                self._set_state(deployment, "serving")
            except EdgeqError as error:
                self._fail(deployment, error)

    def resume_builds(self) -> None:
        """Start the builds that a stop or crash interrupted, and those that samples now allow."""
        for deployment in self.deployments.values():
            self.consider_build(deployment, "samples")

    def close(self) -> None:
        """Answer what is inside and free every engine."""
        for deployment in self.deployments.values():
            deployment.slot.close()
            deployment.store.flush()

    # ---- drops

    def take(self, candidate: Candidate) -> bool:
        """Admit a settled drop and serve or build it; a bad one goes to quarantine.

        Returns False where the box, not the drop, was at fault: it is to be tried again.
        """
        name = candidate.name
        deployment = self.deployments.get(name)
        if self._context.registry.is_pinned(name):
            logger.info("drop ignored, the model is pinned", extra={"model": name})
            return True
        received = receive(self._context, candidate, deployment.slot.live if deployment else None)
        if received.refusal is not None:
            self._write_status(name, "quarantined", received.refusal.message, received.refusal.hint)
        if received.sidecar is not None and (deployment or received.drop):
            deployment = deployment or self._open(name)
            deployment.sidecar = received.sidecar  # it may have changed alone
        if received.drop is not None and deployment is not None:
            self._deploy(deployment, received.drop)
        return not received.is_to_be_tried_again

    def _deploy(self, deployment: Deployment, drop: Admitted) -> None:
        """Serve the drop as it is, unless an INT8 engine serves and its successor can be built."""
        self._cancel_build(deployment)
        deployment.arriving = drop
        can_build = not drop.probe.quantized and self._has_samples(deployment)
        if can_build and deployment.engine not in ("", "float"):
            self._request_build(deployment, "drop")
        else:
            self._serve_arriving(deployment)

    def _serve_arriving(self, deployment: Deployment) -> None:
        drop, deployment.arriving = deployment.arriving, None
        assert drop is not None
        try:
            self.publisher.install_dropped(deployment, drop)
        except EdgeqError as error:
            self._context.registry.drop_seen(deployment.name, drop.sha256, "quarantined")
            self._quarantine(deployment.name, drop, error)
            self._fail(deployment, error)
            return
        finally:
            drop.path.unlink(missing_ok=True)
        self._context.registry.drop_seen(deployment.name, drop.sha256, "accepted")
        self._set_state(deployment, "serving")
        self.consider_build(deployment, "drop")

    def _quarantine(self, name: str, drop: Admitted, error: EdgeqError) -> None:
        self._context.quarantine.put(
            name, drop.sha256, drop.path, stage="publish", error=error.message, hint=error.hint
        )
        self._context.metrics.drops.labels("quarantined").inc()

    def removed(self, name: str) -> None:
        """A drop was taken away; what it brought stays, unless the configuration says otherwise."""
        deployment = self.deployments.get(name)
        if deployment is None or self._context.config.on_remove == "keep":
            return
        self.unload(name)

    # ---- builds

    def consider_build(self, deployment: Deployment, cause: Cause) -> None:
        """Build if the float model serves, the samples suffice, and it was not tried before."""
        registry, name = self._context.registry, deployment.name
        if deployment.engine != "float" or self._builder.is_pending(name):
            return
        was_tried = any(
            v.model_sha256 == deployment.model_sha256
            and v.state in ("rejected", "rolled_back")
            and v.engine != "float"
            for v in registry.versions(name)
        ) or registry.drop_outcome(name, _build_key(deployment.model_sha256))
        if self._has_samples(deployment) and not was_tried and not registry.is_pinned(name):
            self._request_build(deployment, cause)

    def recalibrate(
        self, deployment: Deployment, cause: Cause, live_samples: Path | None = None
    ) -> None:
        """Build the live model again on the samples of now.

        `live_samples` are those that show what the inputs look like now; None: all do.
        """
        deployment.recalibrated = time.monotonic()
        self._request_build(deployment, cause, live_samples)

    def _has_samples(self, deployment: Deployment) -> bool:
        return len(deployment.store) >= self._context.config.samples.minimum

    def _request_build(
        self, deployment: Deployment, cause: Cause, live_samples: Path | None = None
    ) -> None:
        arriving = deployment.arriving
        if arriving is not None:
            model, sha256 = arriving.path, arriving.sha256
        else:
            live = int(deployment.version)
            model = self._context.paths.bundle(deployment.name, live) / "float.tflite"
            sha256 = deployment.model_sha256
        config, sidecar = self._context.config, deployment.sidecar
        gate = {**config.verify.model_dump(), **sidecar.gate.model_dump(exclude_none=True)}
        arguments = {
            "--samples": deployment.store.directory,
            "--name": deployment.name,
            "--backend": config.build.backend,
            "--method": sidecar.method or config.build.method,
            "--threads": config.build.threads,
            "--held-out-ratio": config.samples.held_out_ratio,
            "--task": sidecar.task,
            "--agreement": gate["agreement"],
            "--cosine": gate["cosine"],
            "--sqnr-db": gate["sqnr_db"],
            "--golden": gate["golden"],
            **({"--live-samples": live_samples} if live_samples else {}),
        }
        flags = [text for flag, value in arguments.items() for text in (flag, str(value))]
        flags += [] if config.build.refine else ["--no-refine"]
        flags += [] if config.build.tune else ["--no-tune"]
        flags.append("--mixed" if config.build.mixed_precision else "--no-mixed")
        limits = config.build
        self._builder.limits = BuildLimits(
            limits.nice, limits.memory_bytes, limits.timeout_s, limits.threads
        )
        deployment.building = BuildJob(deployment.name, sha256, cause, (str(model), *flags))
        self._builder.request(deployment.building)
        self._set_state(deployment, "building", f"building from {len(deployment.store)} samples")

    def build_ended(self, outcome: BuildOutcome) -> None:
        """Publish what a build made, or go on with what serves."""
        deployment = self.deployments[outcome.job.name]
        try:
            if outcome.job is deployment.building:  # not one that was called off meanwhile
                deployment.building = deployment.progress = None
                self._count_build(outcome)
                self._use_build(deployment, outcome)
        finally:
            shutil.rmtree(outcome.directory, ignore_errors=True)

    def _use_build(self, deployment: Deployment, outcome: BuildOutcome) -> None:
        if outcome.outcome == "succeeded":
            try:
                self.publisher.install_built(deployment, outcome.bundle)
            except EdgeqError as error:
                self._build_refused(deployment, outcome, error.message)
                return
            self._settle_arriving(deployment)
            self._begin_probation(deployment)
            return
        self._build_refused(deployment, outcome, str(outcome.result.get("error", "")))

    def _build_refused(self, deployment: Deployment, outcome: BuildOutcome, reason: str) -> None:
        context, job = self._context, outcome.job
        context.registry.drop_seen(job.name, _build_key(job.sha256), "quarantined")
        context.registry.record(job.name, f"build {outcome.outcome}", reason)
        logger.warning(f"build {outcome.outcome}", extra={"model": job.name, "reason": reason})
        if deployment.arriving is not None:
            self._serve_arriving(deployment)  # the float model of the drop: right, if slower
        else:
            self._set_state(deployment, "serving")
        deployment.reason = f"build {outcome.outcome}: {reason}"
        self._write_status(job.name, deployment.state, deployment.reason, "")

    def _cancel_build(self, deployment: Deployment) -> None:
        """Call a running or waiting build off, and with it the drop that it was made for."""
        deployment.building = deployment.progress = None
        self._builder.cancel(deployment.name)
        if deployment.arriving is not None:
            deployment.arriving.path.unlink(missing_ok=True)
            deployment.arriving = None

    def _settle_arriving(self, deployment: Deployment) -> None:
        drop, deployment.arriving = deployment.arriving, None
        if drop is not None:
            self._context.registry.drop_seen(deployment.name, drop.sha256, "accepted")
            drop.path.unlink(missing_ok=True)

    def _count_build(self, outcome: BuildOutcome) -> None:
        metrics, job = self._context.metrics, outcome.job
        metrics.builds.labels(job.name, outcome.outcome).inc()
        if job.cause in ("drift", "request"):
            metrics.recalibrations.labels(job.name, outcome.outcome).inc()
        for stage, seconds in outcome.result.get("stages", {}).items():
            metrics.build_duration.labels(job.name, stage).observe(seconds)
        verdict = outcome.result.get("verdict", {})
        if verdict.get("agreement") is not None:
            metrics.verify_agreement.labels(job.name).set(verdict["agreement"])
        if verdict:
            metrics.verify_sqnr.labels(job.name).set(verdict["sqnr_db"])

    # ---- what is watched

    def _begin_probation(self, deployment: Deployment) -> None:
        window_s = self._context.config.swap.probation.window_s
        deployment.probation_ends = time.monotonic() + window_s
        self._set_state(deployment, "probation", f"watched for {window_s:g} s")

    def check_probation(self, deployment: Deployment) -> None:
        """Roll back a new version that fails, or end its probation."""
        if deployment.probation_ends is None:
            return
        options: ProbationOptions = self._context.config.swap.probation.options
        if verdict := probation_verdict(deployment.slot.health, options):
            self.rollback(deployment.name, verdict)
        elif time.monotonic() >= deployment.probation_ends:
            deployment.probation_ends = None
            self._set_state(deployment, "serving")

    # ---- commands

    def find(self, name: str) -> Deployment:
        """Return a model.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name not in self.deployments:
            known = ", ".join(sorted(self.deployments)) or "none"
            raise NotFoundError(f"model {name!r} is unknown; there are: {known}")
        return self.deployments[name]

    def rollback(self, name: str, reason: str, to: int | None = None) -> Version:
        """Go back to the previous version, or to `to`; errors as `Publisher.rollback`."""
        deployment = self.find(name)
        self._cancel_build(deployment)
        deployment.probation_ends = None
        version = self.publisher.rollback(deployment, reason, to)
        self._set_state(deployment, "serving", reason)
        return version

    def unload(self, name: str) -> None:
        """Stop serving a model until `load` or the next drop."""
        deployment = self.find(name)
        self._cancel_build(deployment)
        deployment.slot.close()
        self.deployments[name] = make_deployment(self._context, name, self._on_infer)
        self._set_state(self.deployments[name], "waiting", "unloaded")

    def load(self, name: str) -> None:
        """Serve a model's committed version again; errors as `Publisher.restore`."""
        deployment = self.find(name)
        if deployment.slot.live is None:
            self.publisher.restore(deployment)
            self._set_state(deployment, "serving")

    # ---- parts

    def _open(self, name: str) -> Deployment:
        self.deployments[name] = make_deployment(self._context, name, self._on_infer)
        return self.deployments[name]

    def _set_state(self, deployment: Deployment, state: State, reason: str = "") -> None:
        deployment.state, deployment.reason = state, reason
        self._context.metrics.set_state(deployment.name, state)
        self._write_status(deployment.name, state, reason, "")

    def _fail(self, deployment: Deployment, error: EdgeqError) -> None:
        state: State = "serving" if deployment.slot.live else "failed"
        self._set_state(deployment, state, error.message)
        self._context.registry.record(deployment.name, "failed", error.message)
        logger.error("failed", extra={"model": deployment.name, "reason": error.message})

    def _write_status(self, name: str, state: str, reason: str, hint: str) -> None:
        deployment = self.deployments.get(name)
        version = deployment.version if deployment else ""
        write_status(self._context.config.models_dir, name, state, version, reason, hint)


def _build_key(sha256: str) -> str:
    """The registry's key for "this float model's build was refused"."""
    return f"build:{sha256}"
