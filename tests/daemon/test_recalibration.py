"""Drift is answered with an engine that is better on the new inputs, or with the present one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.daemon.drift import DriftWatch
from edgeq.daemon.episodes import History
from edgeq.registry import Event
from tests.daemon.conftest import House, fill, install

Inputs = list[dict[str, np.ndarray]]


class Loop:
    """The drift loop over a house, at a time of the test's."""

    def __init__(self, house: House, deployment: Any) -> None:
        self.house, self.deployment = house, deployment
        self.watch = DriftWatch(house.context, house.deployer)
        self.now = time.time()

    def look(self) -> None:
        time.sleep(0.002)  # more than drift.interval_s
        self.watch.check(self.deployment)

    def traffic(self, inputs: Inputs) -> None:
        """Requests as the capture thread has them: watched, and offered to the store."""
        self.house.see(inputs)
        for each in inputs:
            self.deployment.store.offer(each)

    def events(self, kind: str) -> list[Event]:
        found = self.house.context.registry.events(100, "digits")
        return [event for event in found if event.kind == kind]

    def set_drift(self, **values: Any) -> None:
        config = self.house.context.config
        drift = config.drift.model_copy(update=values)
        self.house.context.config = config.model_copy(update={"drift": drift})

    def metric(self, outcome: str) -> str:
        page = self.house.context.metrics.page().decode()
        start = f'edgeq_recalibrations_total{{model="digits",outcome="{outcome}"}} '
        return next(line for line in page.splitlines() if line.startswith(start)).split()[-1]


@pytest.fixture
def loop(house: House, digits: Path, built: Path, images: Inputs) -> Loop:
    """An INT8 engine that serves, past its probation, with the days in its store."""
    config = house.context.config
    build = config.build.model_copy(update={"refine": False, "method": "max"})  # as `built` was
    house.context.config = config.model_copy(update={"build": build})
    house.drop(digits / "digits.tflite")
    fill(house, images)
    deployment = install(house, built)
    house.deployer._watch.end(deployment)
    house.deployer.models.settle(deployment)
    made = Loop(house, deployment)
    house.deployer.recalibrations._clock = lambda: made.now
    deployment.store._clock = lambda: made.now
    return made


def changed(images: Inputs, factor: float, offset: float = 0.0) -> Inputs:
    """The same frames under another light, each a little different."""
    return [{"image": x["image"] * factor + n * 1e-3 + offset} for n, x in enumerate(images)]


def test_brighter_frames_are_learned_and_the_drift_is_over(loop, images):
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert loop.deployment.drift.active
    assert [s.samples for s in loop.deployment.store.strata()] == [0]  # of unknown kind till now
    assert "0 of 20 different samples" in loop.deployment.recalibration
    loop.traffic(changed(images, 3.0))
    loop.look()
    outcome = loop.house.finish_build()
    assert outcome.outcome == "succeeded", outcome.result
    assert loop.deployment.version == "3"
    verdict = outcome.result["verdict"]
    assert verdict["old"]["passed"]
    assert verdict["new"]["passed"]
    assert loop.metric("succeeded") == "2.0"  # the one that the fixture installed, too
    (event,) = loop.events("recalibrated")
    assert event.version == 3
    assert "new samples" in event.message
    assert "dB on the new ones, beside the engine before" in event.message
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert not loop.deployment.drift.active
    assert loop.deployment.recalibration == ""
    kinds = [event.kind for event in loop.house.context.registry.events(100, "digits")][::-1]
    assert [k for k in kinds if "drift" in k or "recalibrat" in k] == [
        "drift", "recalibrating", "recalibrated"
    ]  # fmt: skip


def test_what_makes_no_difference_is_refused_and_the_drift_stays_shown(loop, images):
    """Darker digits lie within the ranges there are: no engine is better for knowing them."""
    dark = changed(images, 0.35)
    loop.traffic(dark)
    loop.look()
    loop.traffic(dark)
    loop.look()
    assert loop.house.finish_build().outcome == "rejected"
    assert (loop.deployment.version, loop.deployment.state) == ("2", "serving")
    assert loop.deployment.reason.startswith("recalibration refused: the engine that serves stays")
    (event,) = loop.events("recalibration refused")
    assert "no better by more than chance" in event.message
    assert loop.metric("rejected") == "1.0"
    loop.look()
    assert loop.deployment.drift.active
    assert 'edgeq_drift_active{model="digits"} 1.0' in loop.house.context.metrics.page().decode()
    assert loop.events("drift ended") == []
    loop.now += 10.0
    loop.look()
    assert not loop.house.builder.is_pending("digits")
    assert "as they were then" in loop.deployment.recalibration
    loop.traffic(changed(images, 3.0))  # other inputs than those that were tried
    loop.look()
    assert loop.house.builder.is_pending("digits")


def test_interval_and_budget_survive_a_restart(loop, images):
    loop.set_drift(minimum_interval_s=3600.0, daily_budget=2)
    history = History().after_start(loop.now - 7200, None, samples=9, by_drift=True)
    history = history.after_start(loop.now - 60, None, samples=9, by_drift=True)
    loop.house.context.registry.note_drift("digits", **history.as_note())
    loop.traffic(changed(images, 3.0))
    loop.look()
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert loop.deployment.recalibration == "the last one was 60 s ago; the next in 59 min"
    loop.now += 3600
    loop.look()
    assert loop.deployment.recalibration == "2 in the last 24 h are the budget; the next in 21 h"
    loop.now += 22 * 3600
    loop.look()
    assert loop.house.builder.is_pending("digits")


def test_a_person_need_not_wait_but_the_gates_hold(loop, images):
    loop.set_drift(minimum_interval_s=86_400.0, policy="alert")
    dark = changed(images, 0.35)
    loop.traffic(dark)
    loop.look()
    loop.traffic(dark)
    loop.look()
    history = History.from_note(loop.house.context.registry.drift_note("digits"))
    loop.house.deployer.recalibrate(loop.deployment, "request")
    outcome = loop.house.finish_build()
    assert outcome.outcome == "rejected"
    assert "--present" in outcome.job.arguments
    after = History.from_note(loop.house.context.registry.drift_note("digits"))
    assert after.started == history.started  # nothing of drift's budget


def test_a_person_who_asks_before_new_samples_are_in_has_all_of_them_built_on(loop, images):
    loop.set_drift(policy="alert")
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert loop.deployment.drift.active
    flags = loop.house.deployer.recalibrations.flags
    assert flags(loop.deployment, "request") == []
    loop.traffic(changed(images, 3.0))
    assert flags(loop.deployment, "request")[0] == "--live-samples"


def test_only_an_alert_tells_and_builds_nothing(loop, images):
    loop.set_drift(policy="alert")
    for _ in range(2):
        loop.traffic(changed(images, 3.0))
        loop.look()
    assert loop.deployment.drift.active
    assert len(loop.events("drift")) == 1
    assert loop.deployment.recalibration == "drift.policy is alert"
    assert not loop.house.builder.is_pending("digits")


def test_a_drift_that_passes_leaves_its_samples_and_goes_on_in_the_old_stratum(loop, images):
    loop.set_drift(policy="alert")
    loop.traffic(changed(images, 3.0))
    loop.look()
    loop.traffic(changed(images[:20], 3.0))
    for _ in range(5):
        loop.traffic(changed(images, 1.0))
    loop.look()
    assert not loop.deployment.drift.active
    (event,) = loop.events("drift ended")
    assert event.message == "inputs are as before"
    strata = loop.deployment.store.strata()
    assert [s.is_current for s in strata] == [True, False]
    assert loop.deployment.store.stratum == "before"
    assert loop.deployment.drift_since is None


def test_one_frame_over_and_over_is_no_ground_to_build_on(loop, images):
    stuck = [{"image": images[0]["image"] * 3.0}] * 80
    for _ in range(3):
        loop.traffic(stuck)
        loop.look()
    assert loop.deployment.drift.active
    assert not loop.house.builder.is_pending("digits")
    assert loop.deployment.recalibration != ""
    fresh = [r for r in loop.deployment.store.rows() if r.stratum != "before"]
    assert len(fresh) <= 1


def test_frames_of_the_window_in_which_a_drift_came_are_of_neither_kind(loop, images):
    loop.traffic(changed(images[:30], 1.0))
    loop.look()
    loop.now += 60.0
    loop.traffic(changed(images[30:], 1.0, 0.1))
    loop.look()
    assert not loop.deployment.drift.active
    before = len(loop.deployment.store)
    loop.now += 60.0
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert loop.deployment.drift.active
    assert len(loop.deployment.store) < before
    values = [s.inputs["image"].max() for s in loop.deployment.store]
    assert max(values) < 300  # none of the bright ones is among the old


def test_a_pinned_model_is_not_recalibrated_by_drift(loop, images):
    loop.house.context.registry.pin("digits")
    for _ in range(2):
        loop.traffic(changed(images, 3.0))
        loop.look()
    assert loop.deployment.drift.active
    assert loop.deployment.recalibration == "the model is pinned"
    assert not loop.house.builder.is_pending("digits")


def test_a_recalibration_that_probation_takes_back_counts_as_refused(loop, images):
    loop.traffic(changed(images, 3.0))
    loop.look()
    loop.traffic(changed(images, 3.0))
    loop.look()
    assert loop.house.finish_build().outcome == "succeeded"
    deployment = loop.deployment
    loop.house.deployer._take_back(deployment, deployment.probation, "it was slow")
    assert deployment.version == "2"
    assert History.from_note(loop.house.context.registry.drift_note("digits")).refusals == 1


def test_a_new_model_that_is_built_meanwhile_ends_the_drift_in_its_stratum(loop, digits, images):
    loop.set_drift(policy="alert")
    for _ in range(2):
        loop.traffic(changed(images, 3.0))
        loop.look()
    bright = loop.deployment.store.stratum
    assert bright != "before"
    loop.house.drop(digits / "digits_v2.tflite")
    outcome = loop.house.finish_build()
    assert outcome.outcome == "succeeded", outcome.result
    assert "--live-samples" in outcome.job.arguments
    assert "--present" not in outcome.job.arguments  # it is another model
    for _ in range(2):
        loop.traffic(changed(images, 3.0))
        loop.look()
    assert not loop.deployment.drift.active
    assert loop.deployment.store.stratum == bright
    assert loop.events("drift ended") == []
