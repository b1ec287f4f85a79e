"""Drops, samples and drift -> builds; finished builds -> live versions. One thread, no locks.

Every method but `admit` runs on the deploy thread, one after the other, so that a drop, a build's
end and a person's command can never interleave. What takes long (a build, the child that opens a
drop first) runs beside it; what it waits for itself is bounded: an engine's load, and the drain.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace

from edgeq.daemon.builder import Builder, BuildOutcome, Cause
from edgeq.daemon.deployment import UNLOADED, Context, Deployment, Probation
from edgeq.daemon.drops import Received, accept, receive
from edgeq.daemon.failures import Failures, remember_failure
from edgeq.daemon.faults import as_edgeq_error, kind_of
from edgeq.daemon.interface import described
from edgeq.daemon.jobs import build_key, build_limits, count_build, make_job
from edgeq.daemon.models import Models
from edgeq.daemon.probation import ProbationWatch
from edgeq.daemon.publisher import Publisher
from edgeq.daemon.rebuilding import serve_anew, tell_of_foreign, was_refused
from edgeq.daemon.recalibration import Recalibrations, is_recalibration
from edgeq.daemon.setbacks import keep_refused, postpone_build, retire_unfinished
from edgeq.daemon.watching import save_watch
from edgeq.errors import EdgeqError, UnavailableError
from edgeq.intake.admit import Admitted
from edgeq.intake.watch import Candidate
from edgeq.registry import Version
from edgeq.swap import InferRecord

logger = logging.getLogger(__name__)


class Deployer:
    """The life of every model under the daemon."""

    def __init__(
        self, context: Context, builder: Builder, on_infer: Callable[[InferRecord], None]
    ) -> None:
        self.context = context
        self._watch = ProbationWatch(context)
        self.models = Models(context, self._watch, on_infer)
        self.deployments = self.models.deployments
        self.publisher = Publisher(context, self._watch)
        self.failures = Failures(context, self._watch, self.publisher, self.models)
        self.recalibrations = Recalibrations(context)
        self._builder = builder

    # ---- start and stop

    def restore(self) -> None:
        """Serve the last committed version of every model, and take up what was interrupted."""
        registry = self.context.registry
        if registry.refusal is not None:
            self.context.faults.note_error(registry.refusal, "the state folder takes no writes")
        for name in registry.names():
            retire_unfinished(self.context, name)
            deployment = self.models.open(name)
            try:
                if reason := self.failures.why_to_leave(name):
                    self.publisher.leave(name, reason)
                self.publisher.restore(deployment)
                tell_of_foreign(self.context, deployment)
                self.models.settle(deployment)
            except (EdgeqError, OSError) as error:
                kind = self.context.faults.note_error(error, "not restored", model=name)
                reason = str(error)
                if kind or not serve_anew(self.context, deployment, self.serve_now, reason):
                    self.models.fail(deployment, as_edgeq_error(error))
        for entry in reversed(self.context.quarantine.entries()):
            self.models.note_refusal(entry.name, entry.error)

    def resume_builds(self) -> None:
        """Start the builds that a stop or crash interrupted, and those that samples now allow."""
        for deployment in self.deployments.values():
            self.consider_build(deployment, "samples")

    def close(self) -> None:
        """Answer what is inside and free every engine."""
        for deployment in self.deployments.values():
            self._watch.stop(deployment)
            deployment.slot.close()
            deployment.store.flush()

    # ---- drops

    def take(self, candidate: Candidate) -> bool:
        """Admit a settled drop and serve or build it; a bad one goes to quarantine.

        Returns False where the box, not the drop, was at fault: it is to be tried again.
        """
        return self.deploy(candidate, self.admit(candidate))

    def admit(self, candidate: Candidate) -> Received:
        """Open a settled drop in a child; on any thread, for that may take a minute."""
        if self.context.registry.is_pinned(candidate.name):
            logger.info("drop ignored, the model is pinned", extra={"model": candidate.name})
            return Received()
        return receive(self.context, candidate)

    def deploy(self, candidate: Candidate, received: Received) -> bool:
        """Serve or build what `admit` received; returns as `take`."""
        drop, registry = received.drop, self.context.registry
        is_over = drop and registry.drop_outcome(drop.name, drop.sha256)  # by another drop
        if drop and (is_over or candidate.has_changed or registry.is_pinned(drop.name)):
            drop.path.unlink(missing_ok=True)
            return True
        deployment, received = self.welcome(candidate, received)
        if received.drop is not None and deployment is not None:
            return self._deploy(deployment, received.drop)
        return not received.is_to_be_tried_again

    def welcome(
        self, candidate: Candidate, received: Received
    ) -> tuple[Deployment | None, Received]:
        """Check an admitted drop against what serves; the model's place is made where it has none.

        Without a deployment, or without a drop in what was received, there is nothing to serve.
        """
        name, deployment = candidate.name, self.deployments.get(candidate.name)
        live = deployment.slot.live if deployment else None
        received = accept(self.context, candidate, received, live)
        if received.refusal is not None and not received.is_to_be_tried_again:
            self.models.note_refusal(name, received.refusal.message)
            self.models.write_status(
                name, "quarantined", received.refusal.message, received.refusal.hint
            )
        if received.sidecar is not None and (deployment or received.drop):
            deployment = deployment or self.models.open(name)
            deployment.sidecar = received.sidecar  # it may have changed alone
        return deployment, received

    def _deploy(self, deployment: Deployment, drop: Admitted) -> bool:
        """Serve a drop, or build it first where an INT8 engine serves; returns as `take`."""
        self._cancel_build(deployment)
        self.context.builds_again.forget(deployment.name)
        deployment.arriving = drop
        if self._is_built_first(deployment, drop):
            self._request_build(deployment, "drop")
            return True
        return not isinstance(self._serve_arriving(deployment), UnavailableError)

    def _is_built_first(self, deployment: Deployment, drop: Admitted) -> bool:
        live = deployment.slot.live
        if live is None or live.engine == "float" or drop.probe.quantized:
            return False
        # Samples of other inputs cannot calibrate it: the float model collects new ones first.
        has_its_inputs = described(live.inputs) == described(drop.probe.inputs)
        return has_its_inputs and self._has_samples(deployment)

    def serve_now(self, deployment: Deployment, drop: Admitted) -> EdgeqError | None:
        """Serve a drop as it came; a build follows by itself. Returns why it was not, or None.

        That is an UnavailableError where the box was at fault: the same drop may do later.
        """
        self._cancel_build(deployment)
        deployment.arriving = drop
        return self._serve_arriving(deployment)

    def _serve_arriving(self, deployment: Deployment) -> EdgeqError | None:
        drop, deployment.arriving = deployment.arriving, None
        assert drop is not None
        self._watch.stop(deployment)
        try:
            self.publisher.install_dropped(deployment, drop)
        except (EdgeqError, OSError, MemoryError) as failure:
            kind = self.context.faults.note_error(failure, "a drop waits", model=deployment.name)
            error = as_edgeq_error(failure, kind)
            self.models.fail(deployment, error, is_news=kind is None)
            if kind is None:
                keep_refused(self.context, drop, "publish", error.message, error.hint)
            return error
        finally:
            drop.path.unlink(missing_ok=True)
        self.context.registry.drop_seen(deployment.name, drop.sha256, "accepted")
        self.models.refused.pop(deployment.name, None)
        self.models.settle(deployment)
        self.consider_build(deployment, "drop")
        return None

    def removed(self, name: str) -> None:
        """A drop was taken away; what it brought stays, unless the configuration says otherwise."""
        if name in self.deployments and self.context.config.on_remove == "unload":
            self.unload(name)

    # ---- builds

    def consider_build(self, deployment: Deployment, cause: Cause) -> None:
        """Build where float or another box's engine serves, if it was not tried before."""
        registry, name = self.context.registry, deployment.name
        is_waiting = self.context.builds_again.is_waiting(name)  # the box had no room just now
        is_wanted = deployment.engine == "float" or bool(deployment.foreign)
        if not is_wanted or self._builder.is_pending(name) or is_waiting:
            return
        if self.context.starts.safe_mode is not None:
            return  # nothing is built; what it is for comes back when safe mode ends
        is_settled = registry.is_pinned(name) or was_refused(self.context, deployment)
        if self._has_samples(deployment) and not is_settled:
            self._request_build(deployment, cause)

    def recalibrate(self, deployment: Deployment, cause: Cause) -> None:
        """Build the live model again on the samples of now."""
        self.recalibrations.started(deployment, cause)
        self._request_build(deployment, cause)

    def _has_samples(self, deployment: Deployment) -> bool:
        return len(deployment.store) >= self.context.config.samples.minimum

    def _request_build(self, deployment: Deployment, cause: Cause) -> None:
        more = self.recalibrations.flags(deployment, cause)
        deployment.building = make_job(self.context, deployment, cause, more)
        self._builder.limits = build_limits(self.context)
        self._builder.request(deployment.building)
        count = len(deployment.store)
        self.models.set_state(deployment, "building", f"building from {count} samples")

    def build_ended(self, outcome: BuildOutcome) -> None:
        """Publish what a build made, or go on with what serves."""
        deployment = self.deployments[outcome.job.name]
        try:
            if outcome.job is deployment.building:  # not one that was called off meanwhile
                deployment.building = deployment.progress = None
                count_build(self.context, outcome)
                self._use_build(deployment, outcome)
        finally:
            shutil.rmtree(outcome.directory, ignore_errors=True)

    def _use_build(self, deployment: Deployment, outcome: BuildOutcome) -> None:
        if outcome.outcome != "succeeded":
            self._build_refused(deployment, outcome, str(outcome.result.get("error", "")))
            return
        is_answer = is_recalibration(deployment, outcome.job)
        self._watch.stop(deployment)
        try:
            self.publisher.install_built(deployment, outcome.bundle)
        except (EdgeqError, OSError, MemoryError) as error:
            self._watch.begin(deployment)
            fault = kind_of(error, self.context.paths.state)
            self._build_refused(deployment, replace(outcome, fault=fault), str(error))
            return
        self.context.builds_again.forget(deployment.name)
        if is_answer:
            self.recalibrations.succeeded(deployment, outcome)
        else:
            self.recalibrations.began_anew(deployment)
        self._settle_arriving(deployment)
        self.models.settle(deployment)

    def _build_refused(self, deployment: Deployment, outcome: BuildOutcome, reason: str) -> None:
        job = outcome.job
        if outcome.fault is not None:
            said = postpone_build(self.context, deployment, outcome.fault, reason)
        elif is_recalibration(deployment, job):
            said = f"recalibration refused: {reason}"
            self.recalibrations.refused(deployment, reason)
        else:
            said = f"build {outcome.outcome}: {reason}"
            self.context.registry.drop_seen(job.name, build_key(job.sha256), "quarantined")
            self.context.events.record(job.name, f"build {outcome.outcome}", reason)
            logger.warning(f"build {outcome.outcome}", extra={"model": job.name, "reason": reason})
        if deployment.arriving is not None:
            self._serve_arriving(deployment)  # the float model of the drop: right, if slower
        else:
            self.models.refresh(deployment)
        deployment.reason = said
        self.models.write_status(job.name, deployment.state, said)

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
            self.context.registry.drop_seen(deployment.name, drop.sha256, "accepted")
            drop.path.unlink(missing_ok=True)

    # ---- what is watched

    def check_probation(self, deployment: Deployment) -> None:
        """Roll back a new version that fails, or end its probation."""
        self.publisher.record_late(deployment)
        probation = deployment.probation
        if probation is None:
            return
        found = self._watch.look(deployment)
        if found.verdict:
            self._take_back(deployment, probation, found.verdict)
        elif found.is_over:
            version = probation.version.version
            self._watch.end(deployment)
            self.context.events.record(deployment.name, "proven", found.figures, version)
            logger.info("proven", extra={"model": deployment.name, "reason": found.figures})
            if deployment.state == "probation":
                self.models.set_state(deployment, "serving")

    def _take_back(self, deployment: Deployment, probation: Probation, verdict: str) -> None:
        """Roll a version back that failed; a drop that came later is still built."""
        name, failed = deployment.name, probation.version
        self._watch.stop(deployment)  # first, for the memory of the shadow's engine
        problem = "it stays, for the model is pinned"
        try:
            if not self.context.registry.is_pinned(name):
                before = probation.before.version
                self.publisher.rollback(deployment, verdict, before, is_bad=True)
                problem = ""
        except EdgeqError as error:
            problem = f"it stays, for the version before it cannot serve: {error.message}"
        self._watch.end(deployment)
        if problem:
            verdict = f"{verdict}; {problem}"
            self.context.events.record(name, "probation failed", verdict, failed.version)
            logger.error("probation failed", extra={"model": name, "reason": verdict})
        elif deployment.arriving is None:
            self._cancel_build(deployment)
        self.models.refresh(deployment, verdict)
        if not problem:
            remember_failure(self.context, failed, verdict, "probation")
            self.recalibrations.taken_back(deployment, probation)

    # ---- commands

    def rollback(self, name: str, reason: str, to: int | None = None) -> Version:
        """Go back to the previous version, or to `to`; errors as `Publisher.rollback`.

        A drop that was being built is called off, and kept in quarantine.
        """
        deployment = self.models.find(name)
        self.context.starts.forget_hung(name)  # a person knows better
        self._watch.stop(deployment)
        try:
            version = self.publisher.rollback(deployment, reason, to)
        except EdgeqError:
            self.models.settle(deployment)
            raise
        self._call_off(deployment, f"called off by a rollback to version {version.version}")
        self._watch.end(deployment)
        self.models.set_state(deployment, "serving", reason)
        return version

    def pin(self, name: str) -> None:
        """Keep the live version: no drop, build or probation changes it until `unpin`."""
        deployment = self.models.find(name)
        self.context.registry.pin(name)
        if deployment.building is not None:
            self._cancel_build(deployment)  # its drop is taken again after `unpin`
            self.models.refresh(deployment, "pinned; the build was ended")

    def unpin(self, name: str) -> None:
        """Let drops and samples change the model again."""
        deployment = self.models.find(name)
        self.context.registry.unpin(name)
        self.consider_build(deployment, "samples")

    def unload(self, name: str) -> None:
        """Stop serving a model until `load` or the next drop."""
        deployment = self.models.find(name)
        self._watch.stop(deployment)
        self._call_off(deployment, "called off by an unload")
        save_watch(self.context, deployment)
        deployment.slot.close()
        deployment.store.flush()
        self.models.open(name).sidecar = deployment.sidecar
        self.models.set_state(self.deployments[name], "waiting", UNLOADED)

    def load(self, name: str) -> None:
        """Serve a model's committed version again, or load it anew beside itself.

        Raises:
            EdgeqError: it cannot be loaded; what serves goes on.
        """
        deployment = self.models.find(name)
        self.context.starts.forget_hung(name)
        self._watch.stop(deployment)
        try:
            if deployment.slot.live is None:
                self.publisher.restore(deployment)
            else:
                self.publisher.reload(deployment)
        finally:
            if deployment.slot.live is not None:
                self.models.settle(deployment)

    # ---- parts

    def _call_off(self, deployment: Deployment, why: str) -> None:
        """End a build; the drop that it was made for is kept, and not tried again by itself."""
        if deployment.arriving is not None:
            hint = "Run `edgeq quarantine list`, and retry it."
            keep_refused(self.context, deployment.arriving, "called off", why, hint)
        self._cancel_build(deployment)
