"""A bundle -> the watch over its version's live frames, which survives a restart.

What was seen is written to STATE_DIR/drift/NAME.npz every so often, and at a stop; it is taken up
again by a version with the same reference.
"""

from __future__ import annotations

import logging
import time

from edgeq import files
from edgeq.bundle import Bundle
from edgeq.calibrate.table import CalibrationTable
from edgeq.daemon.deployment import Context, Deployment
from edgeq.drift.watch import StreamWatch, Watched
from edgeq.errors import EdgeqError

logger = logging.getLogger(__name__)


def watch_over(context: Context, deployment: Deployment, bundle: Bundle) -> None:
    """Give a deployment the watch over the version that now serves, None where there is none."""
    if deployment.monitor is not None:
        deployment.monitor.close()
    deployment.monitor, deployment.drift = _open(context, bundle), None
    if deployment.monitor is not None:
        _take_up(context, deployment, deployment.monitor)


def _open(context: Context, bundle: Bundle) -> StreamWatch | None:
    options = context.config.drift.drift_options
    if options.policy == "off" or not bundle.has("drift.npz"):
        return None
    table = bundle.read_if_there("calibration.json")
    try:
        watched = Watched(
            reference=bundle.read("drift.npz"),
            int8=bundle.read_if_there("int8.tflite"),
            ranges=CalibrationTable.from_json(table).tensors if table else {},
        )
        return StreamWatch(watched, options)
    except EdgeqError as error:
        fields = {"model": bundle.manifest.name, "reason": error.message, "hint": error.hint}
        logger.warning("drift is not watched", extra=fields)
        return None


def _take_up(context: Context, deployment: Deployment, watch: StreamWatch) -> None:
    path = context.paths.drift(deployment.name)
    try:
        is_same = watch.restore(path.read_bytes())
    except FileNotFoundError:
        return
    except (EdgeqError, OSError) as error:
        fields = {"model": deployment.name, "reason": str(error)}
        logger.warning("drift windows not taken up", extra=fields)
        return
    if is_same:
        deployment.drift = watch.check()


def save_watch(context: Context, deployment: Deployment) -> None:
    """Write what was seen; a disk that refuses it costs the windows, not what serves."""
    watch = deployment.monitor
    if watch is None:
        return
    path = context.paths.drift(deployment.name)
    try:
        files.make_directory(path.parent)
        files.write_atomic(path, watch.to_npz())
    except OSError as error:
        fields = {"model": deployment.name, "reason": str(error)}
        logger.warning("drift windows not written", extra=fields)


class WatchKeeper:
    """Saves what was seen of every model now and then; used by the deploy thread only."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._saved: dict[str, tuple[float, int]] = {}  # when, and how many frames by then
        self._told: dict[str, str] = {}  # the problem with activations that was told last

    def keep(self, deployment: Deployment) -> None:
        """Save, if it is time and frames came since the last time."""
        watch, now = deployment.monitor, time.monotonic()
        if watch is None:
            return
        if watch.problem != self._told.get(deployment.name, ""):
            self._tell(deployment.name, watch.problem)
        saved, frames = self._saved.setdefault(deployment.name, (now, 0))
        due = saved + self._context.config.drift.save_interval_s
        if now >= due and watch.frames != frames:
            save_watch(self._context, deployment)
            self._saved[deployment.name] = (now, watch.frames)

    def _tell(self, name: str, problem: str) -> None:
        self._told[name] = problem
        if problem:
            fields = {"model": name, "reason": problem}
            logger.warning("activations are not looked at any more", extra=fields)
