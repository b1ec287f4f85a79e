"""Live windows -> drift metrics, and, where the policy says so, a recalibration."""

from __future__ import annotations

import time

from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment
from edgeq.observe.drift_metrics import show_drift


class DriftWatch:
    """Looks at every model's window; used by the deploy thread only."""

    def __init__(self, context: Context, deployer: Deployer) -> None:
        self._context = context
        self._deployer = deployer
        self._checked: dict[str, float] = {}

    def check(self, deployment: Deployment) -> None:
        """Compare the window with calibration, if it is time; tell of drift and answer it."""
        options, now = self._context.config.drift, time.monotonic()
        monitor = deployment.monitor
        if monitor is None or now - self._checked.get(deployment.name, 0.0) < options.interval_s:
            return
        self._checked[deployment.name] = now
        state = monitor.check()
        deployment.drift = state
        show_drift(self._context.metrics, deployment.name, state, monitor)
        recalibrations = self._deployer.recalibrations
        recalibrations.look(deployment, state)
        if recalibrations.is_due(deployment, state):
            self._deployer.recalibrate(deployment, "drift")
