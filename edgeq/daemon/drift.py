"""Live windows -> drift metrics, and, where the policy says so, a recalibration."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment
from edgeq.observe.drift import DriftState

logger = logging.getLogger(__name__)


class DriftWatch:
    """Looks at every model's window; used by the deploy thread only."""

    def __init__(self, context: Context, deployer: Deployer) -> None:
        self._context = context
        self._deployer = deployer
        self._checked: dict[str, float] = {}

    def check(self, deployment: Deployment) -> None:
        """Compare the window with calibration, if it is time; alert and recalibrate on drift."""
        options, now = self._context.config.drift, time.monotonic()
        monitor = deployment.monitor
        if monitor is None or now - self._checked.get(deployment.name, 0.0) < options.interval_s:
            return
        self._checked[deployment.name] = now
        state = monitor.check()
        was_active = deployment.drift is not None and deployment.drift.active
        deployment.drift = state
        self._export(deployment, state)
        if state.active and not was_active:
            self._began(deployment, state)
        elif was_active and not state.active:
            deployment.drift_since = None
            self._context.registry.record(deployment.name, "drift ended", "inputs are as before")
        if state.active and options.policy == "recalibrate":
            self._recalibrate(deployment)

    def _began(self, deployment: Deployment, state: DriftState) -> None:
        """From here on new frames have a share of the store of their own."""
        deployment.drift_since = time.time()
        deployment.store.begin_stratum()
        self._context.registry.record(deployment.name, "drift", state.reason)
        logger.warning("drift", extra={"model": deployment.name, "reason": state.reason})

    def _recalibrate(self, deployment: Deployment) -> None:
        """Build again once enough frames of the new kind are in, and not too often."""
        config, since = self._context.config, deployment.drift_since
        if since is None or deployment.state != "serving":
            return
        if self._context.registry.is_pinned(deployment.name):
            return
        if deployment.since_recalibration_s < config.drift.minimum_interval_s:
            return
        fresh = [row for row in deployment.store.rows() if row.time >= since]
        if len(fresh) >= config.samples.minimum:
            deployment.drift_since = None
            folder = self._link(deployment, [row.file_name for row in fresh])
            self._deployer.recalibrate(deployment, "drift", live_samples=folder)

    def _link(self, deployment: Deployment, names: list[str]) -> Path:
        """Gather the frames of the new kind: calibrated on all, drift is measured against these."""
        folder = self._context.paths.fresh(deployment.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                os.link(deployment.store.directory / name, folder / name)
        return folder

    def _export(self, deployment: Deployment, state: DriftState) -> None:
        metrics, name = self._context.metrics, deployment.name
        metrics.drift_active.labels(name).set(state.active)
        metrics.drift_window.labels(name).set(state.frames)
        for tensor in state.tensors:
            metrics.drift_psi.labels(name, tensor.tensor).set(tensor.psi)
            metrics.drift_js.labels(name, tensor.tensor).set(tensor.js_distance)
            metrics.drift_wasserstein.labels(name, tensor.tensor).set(tensor.wasserstein_ratio)
            metrics.drift_ks.labels(name, tensor.tensor).set(tensor.ks_ratio)
            metrics.scale_drift.labels(name, tensor.tensor).set(tensor.scale_ratio)
            metrics.drift_threshold.labels(name, tensor.tensor, "psi").set(tensor.threshold)
            metrics.saturation.labels(name, tensor.tensor, "low").set(tensor.below_ratio)
            metrics.saturation.labels(name, tensor.tensor, "high").set(tensor.above_ratio)
