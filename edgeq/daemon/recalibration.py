"""Drift -> strata of samples, recalibrations when they may be, and what people hear of it.

Used by the deploy thread only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.daemon.builder import BuildJob, BuildOutcome, Cause
from edgeq.daemon.deployment import Context, Deployment, Probation
from edgeq.daemon.episodes import Captures, Episode, History
from edgeq.drift.state import DriftState
from edgeq.errors import EdgeqError, RegistryError
from edgeq.samples.naming import stratum_in_words

logger = logging.getLogger(__name__)

RECALIBRATIONS = ("drift", "request")  # causes of builds of what serves already
LEAST_SAMPLES = 16  # of the new kind: of these, four are held out
SURELY_OVER = 0.5  # of a window: with fewer frames, no drift is no news


def is_recalibration(deployment: Deployment, job: BuildJob) -> bool:
    """True for a build of the model that serves as INT8 already."""
    is_live = deployment.arriving is None and deployment.engine not in ("", "float")
    return job.cause in RECALIBRATIONS and is_live


class Recalibrations:
    """The loop's memory and its rules, for every model; `clock` gives seconds since the epoch."""

    def __init__(self, context: Context, clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._clock = clock
        self._captures: dict[str, Captures] = {}
        self._unsaved: dict[str, History] = {}  # what the registry takes no note of now

    # ---- drift comes and goes

    def look(self, deployment: Deployment, state: DriftState) -> None:
        """Take note of a drift that began or passed, and give its samples a stratum."""
        history, window = self._history(deployment), self._context.config.drift.window
        if deployment.name in self._unsaved:
            self._save(deployment, history)
        captures = self._captures.setdefault(deployment.name, Captures())
        episode = history.episode
        if state.active and episode is None:
            self._begin(deployment, state, history, captures)
        elif not state.active and episode and state.frames >= SURELY_OVER * window:
            self._end(deployment, history, episode)
        elif not state.active:
            captures.mark(self._clock(), deployment.store.offered, window)
        open_episode = self._history(deployment).episode
        deployment.drift_since = open_episode.since if open_episode else None

    def clock_jumped(self, deployment: Deployment, seconds: float) -> None:
        """Follow a clock that was set: intervals and budgets are as long as they were."""
        self._captures.setdefault(deployment.name, Captures()).shift(seconds)
        deployment.store.shift(seconds)
        history = self._history(deployment)
        if history != History():
            self._save(deployment, history.shifted(seconds))

    def _begin(
        self, deployment: Deployment, state: DriftState, history: History, captures: Captures
    ) -> None:
        """Which frames of the window are of the old kind nobody knows: none of them stays."""
        store, live, now = deployment.store, deployment.slot.live, self._clock()
        frames = max(int(state.frames), self._context.config.drift.window)
        since = captures.since(store.offered, frames)
        try:
            # A version that is live since a time to come is so since before the clock was set.
            served = live.since if live and live.since <= now else 0.0
            store.forget_since(max(since, served))
            before = store.stratum
            episode = Episode(now, store.begin_stratum(), before)
        except EdgeqError as error:  # tried again at the next look
            logger.warning(error.message, extra={"model": deployment.name})
            return
        self._save(deployment, replace(history, episode=episode))
        self._context.events.record(deployment.name, "drift", state.reason)
        logger.warning("drift", extra={"model": deployment.name, "reason": state.reason})

    def _end(self, deployment: Deployment, history: History, episode: Episode) -> None:
        try:
            deployment.store.go_on_with(episode.before)
        except EdgeqError as error:  # some samples keep another stratum's name until a restart
            logger.warning(error.message, extra={"model": deployment.name})
        self._save(deployment, history.after_return())
        deployment.recalibration = ""
        self._context.events.record(deployment.name, "drift ended", "inputs are as before")

    # ---- when

    def is_due(self, deployment: Deployment, state: DriftState) -> bool:
        """True where a drift is to be answered now; why not is left in the deployment."""
        if not state.active:
            deployment.recalibration = ""
            return False
        deployment.recalibration = self._why_not(deployment, state)
        return not deployment.recalibration

    def _why_not(self, deployment: Deployment, state: DriftState) -> str:
        config, history = self._context.config, self._history(deployment)
        if config.drift.policy != "recalibrate":
            return f"drift.policy is {config.drift.policy}"
        if self._context.registry.is_pinned(deployment.name):
            return "the model is pinned"
        if deployment.state != "serving":
            return f"the model is in state {deployment.state!r}"
        if state.unfit:
            return f"these inputs are not to be calibrated on: {state.unfit}"
        fresh, wanted = len(self._fresh(deployment)), config.samples.minimum
        if deployment.store.is_share_full:  # of a small store, or one full of a person's samples
            wanted = min(wanted, LEAST_SAMPLES)
        if fresh < wanted:
            return f"{fresh} of {wanted} different samples since the drift began"
        return history.why_not(
            state,
            fresh,
            self._clock(),
            minimum_interval_s=config.drift.minimum_interval_s,
            daily_budget=config.drift.daily_budget,
        )

    # ---- what a build needs

    def flags(self, deployment: Deployment, cause: Cause) -> list[str]:
        """Return what to add to a build, so that it knows what is new and what it must beat."""
        episode = self._history(deployment).episode
        is_answer = cause in RECALIBRATIONS and deployment.arriving is None and episode is not None
        fresh = self._fresh(deployment)
        is_one_kind = len(fresh) == len(deployment.store)
        # Of fewer, which a person may ask for, the new version could not tell what drift is.
        if len(fresh) < self._context.config.samples.minimum or (is_one_kind and not is_answer):
            return []
        flags = ["--live-samples", str(self._link(deployment, fresh))]
        if is_answer and deployment.engine not in ("", "float"):
            present = self._context.paths.bundle(deployment.name, int(deployment.version))
            flags += ["--present", str(present / "int8.tflite")]
        return flags

    def _fresh(self, deployment: Deployment) -> list[str]:
        """The files of what was captured under the present condition."""
        store = deployment.store
        current = store.stratum
        rows = store.rows()
        return [r.file_name for r in rows if r.origin == "captured" and r.stratum == current]

    def _link(self, deployment: Deployment, names: list[str]) -> Path:
        folder = self._context.paths.fresh(deployment.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                os.link(deployment.store.directory / name, folder / name)
        return folder

    # ---- what came of it

    def started(self, deployment: Deployment, cause: Cause) -> None:
        """Count a recalibration that was asked for."""
        history = self._history(deployment)
        now, state = self._clock(), deployment.drift
        is_drift = state is not None and state.active
        history = history.after_start(
            now,
            state if is_drift else None,
            samples=len(self._fresh(deployment)),
            by_drift=cause == "drift",
        )
        self._save(deployment, history)
        why = "the inputs drifted" if cause == "drift" else "a person asked for it"
        strata = deployment.store.strata()
        counts = ", ".join(f"{s.samples} {stratum_in_words(s.name)}" for s in strata)
        message = f"on {len(deployment.store)} samples ({counts} captured): {why}"
        self._context.events.record(deployment.name, "recalibrating", message)

    def succeeded(self, deployment: Deployment, outcome: BuildOutcome) -> None:
        """Say what serves now, and that its drift is over."""
        self._save(deployment, self._history(deployment).after_success())
        deployment.recalibration = ""
        message = f"version {deployment.version} serves: {_figures(outcome.result)}"
        version = int(deployment.version)
        self._context.events.record(deployment.name, "recalibrated", message, version=version)
        logger.info("recalibrated", extra={"model": deployment.name, "reason": message})

    def began_anew(self, deployment: Deployment) -> None:
        """Another model's engine, calibrated on the inputs of now, knows of no drift."""
        history = self._history(deployment)
        if history.episode is not None:
            self._save(deployment, history.after_success())

    def refused(self, deployment: Deployment, reason: str) -> None:
        """Say why what serves stays; the next try waits longer, and for other inputs."""
        self._save(deployment, self._history(deployment).after_refusal())
        self._context.events.record(deployment.name, "recalibration refused", reason)
        logger.warning("recalibration refused", extra={"model": deployment.name, "reason": reason})

    def taken_back(self, deployment: Deployment, probation: Probation) -> None:
        """Count a version that its probation took back as a refusal, if it was a recalibration."""
        if probation.is_same_model and probation.before.engine != "float":
            self._save(deployment, self._history(deployment).after_refusal())

    # ---- parts

    def _history(self, deployment: Deployment) -> History:
        history = self._unsaved.get(deployment.name)
        if history is None:
            history = History.from_note(self._context.registry.drift_note(deployment.name))
        episode = history.episode
        if episode is not None and episode.stratum != deployment.store.stratum:
            return replace(history, episode=None)  # of other inputs, whose samples are set aside
        return history

    def _save(self, deployment: Deployment, history: History) -> None:
        """Keep it in memory where the disk refuses it: a drift begins once, budgets are spent."""
        try:
            self._context.registry.note_drift(deployment.name, **history.as_note())
            self._unsaved.pop(deployment.name, None)
        except RegistryError as error:
            self._unsaved[deployment.name] = history
            if self._context.faults.note_error(error, model=deployment.name) is None:
                raise


def _figures(result: Mapping[str, Any]) -> str:
    """Return a verdict's figures in words: new, old, and beside the engine before."""
    verdict, comparison = result.get("verdict", {}), result.get("comparison")
    sides = [("new", verdict["new"]), ("old", verdict["old"])] if "new" in verdict else []
    parts = [f"{name} samples {_fidelity(part)}" for name, part in sides or [("held-out", verdict)]]
    if comparison:
        new = comparison["new"]
        parts.append(f"{new['gain_db']:+.1f} dB on the new ones, beside the engine before")
    return ", ".join(parts)


def _fidelity(part: Mapping[str, Any]) -> str:
    if part.get("agreement") is not None:
        return f"{part['agreement']:.1%} as float of {part['samples']}"
    return f"SQNR {part.get('sqnr_db', 0.0):.1f} dB of {part.get('samples', 0)}"
