"""Every model under the daemon, by its name: its deployment, and its state as people see it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgeq.daemon.deployment import Context, Deployment, State, make_deployment
from edgeq.daemon.probation import ProbationWatch
from edgeq.errors import EdgeqError, NotFoundError
from edgeq.intake.quarantine import write_status
from edgeq.swap import InferRecord

logger = logging.getLogger(__name__)

REFUSED_SHOWN = 50  # models whose drops were refused, and that have no version


class Models:
    """Changed by the deploy thread, read by any."""

    def __init__(
        self, context: Context, watch: ProbationWatch, on_infer: Callable[[InferRecord], None]
    ) -> None:
        self.deployments: dict[str, Deployment] = {}
        self.refused: dict[str, str] = {}  # models without a version -> why
        self._context = context
        self._watch = watch
        self._on_infer = on_infer

    def find(self, name: str) -> Deployment:
        """Return a model.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name not in self.deployments:
            known = ", ".join(sorted(self.deployments)) or "none"
            why = f"; its drop was refused: {self.refused[name]}" if name in self.refused else ""
            raise NotFoundError(f"model {name!r} is unknown; there are: {known}{why}")
        return self.deployments[name]

    def open(self, name: str) -> Deployment:
        """Make a model's place, anew where it has one that was closed."""
        self.deployments[name] = make_deployment(self._context, name, self._on_infer)
        self.refused.pop(name, None)
        return self.deployments[name]

    def note_refusal(self, name: str, reason: str) -> None:
        """Remember why a model has no version; the latest few are."""
        if name not in self.deployments:
            kept = {other: why for other, why in self.refused.items() if other != name}
            self.refused = dict([*kept.items(), (name, reason)][-REFUSED_SHOWN:])

    # ---- states

    def settle(self, deployment: Deployment) -> None:
        """Go on with what serves now: watched, where the registry has a note of its probation."""
        is_watched = self._watch.begin(deployment)
        window_s = self._context.config.swap.probation.window_s
        self.refresh(deployment, f"watched for {window_s:g} s" if is_watched else "")

    def fail(self, deployment: Deployment, error: EdgeqError, *, is_news: bool = True) -> None:
        """Say that something went wrong; what serves, if anything does, is settled again.

        Args:
            deployment: the model.
            error: what went wrong.
            is_news: False for what is noted as a fault of the box already, again and again.
        """
        if deployment.slot.live is not None:
            self._watch.begin(deployment)
        self.refresh(deployment, error.message)
        if not is_news:
            return
        self._context.events.record(deployment.name, "failed", error.message)
        logger.error("failed", extra={"model": deployment.name, "reason": error.message})

    def refresh(self, deployment: Deployment, reason: str = "") -> None:
        """Set the state that the deployment is in."""
        self.set_state(deployment, _state_of(deployment), reason)

    def set_state(self, deployment: Deployment, state: State, reason: str = "") -> None:
        """Set a state, for the metrics, the data plane and the file beside the drop."""
        deployment.state, deployment.reason = state, reason
        self._context.metrics.set_state(deployment.name, state)
        self.write_status(deployment.name, state, reason)

    def write_status(self, name: str, state: str, reason: str, hint: str = "") -> None:
        """Write NAME.status.json, for people who only have the folder."""
        deployment = self.deployments.get(name)
        version = deployment.version if deployment else ""
        write_status(self._context.config.models_dir, name, state, version, reason, hint)


def _state_of(deployment: Deployment) -> State:
    if deployment.slot.live is None:
        return "failed"
    if deployment.building is not None:
        return "building"
    return "probation" if deployment.probation else "serving"
