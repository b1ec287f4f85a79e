"""A build on samples of two conditions, beside the engine that serves: what it may replace."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.build.options import BuildOptions
from edgeq.build.pipeline import build
from edgeq.errors import GateError
from edgeq.samples.store import Sample, is_held_out, sample_id
from tests.build_samples import from_list

OPTIONS = BuildOptions(method="mse", refine=False, backend="cpu", mixed_precision=False)
NIGHT = "20261118T110640Z"


def changed(samples: list[Sample], change: Any, stratum: str = NIGHT) -> list[Sample]:
    """The same frames under another condition."""
    found = []
    for sample in samples:
        inputs = {n: np.asarray(change(v), np.float32) for n, v in sample.inputs.items()}
        found.append(Sample(sample_id(inputs), inputs, stratum))
    return found


@pytest.fixture(scope="module")
def day(digits: Path) -> list[Sample]:
    with np.load(digits / "digits_samples.npz") as arrays:
        inputs = [{"image": x[np.newaxis].astype(np.float32)} for x in arrays["x"][:160]]
    return [Sample(sample_id(given), given, "before") for given in inputs]


@pytest.fixture(scope="module")
def present(digits_model: bytes, day: list[Sample], tmp_path_factory: Any) -> bytes:
    """The INT8 model that was calibrated on the days, and serves."""
    out = tmp_path_factory.mktemp("present") / "b"
    return build(digits_model, from_list(day[:80]), out, OPTIONS).bundle.read("int8.tflite")


@pytest.fixture
def recalibrate(digits_model: bytes, day: list[Sample], present: bytes, tmp_path: Path) -> Any:
    """Build on the days and new samples, with the present engine to be better than."""

    def run(new: list[Sample], old: list[Sample] = day[:80], **options: Any) -> Any:
        asked = replace(OPTIONS, **options)
        source, live = from_list([*old, *new]), from_list(new)
        return build(digits_model, source, tmp_path / "b", asked, live=live, present=present)

    return run


def refused(recalibrate: Any, *arguments: Any, **options: Any) -> tuple[str, dict[str, Any]]:
    with pytest.raises(GateError) as caught:
        recalibrate(*arguments, **options)
    return caught.value.message, caught.value.verdict


def test_the_verdict_carries_old_and_new_beside_what_it_always_did(recalibrate, day):
    brighter = changed(day[80:], lambda x: x * 3)
    result = recalibrate(brighter)
    verdict = json.loads(result.bundle.read("verdict.json"))
    assert verdict["passed"]
    assert verdict["old"]["passed"]
    assert verdict["new"]["passed"]
    assert verdict["old"]["samples"] + verdict["new"]["samples"] == verdict["samples"]
    assert verdict["old"]["agreement"] >= 0.95
    assert set(verdict["strata"]) == {"before"}
    assert verdict["comparison"]["new"]["gain_db"] > 0.5
    assert result.as_dict()["comparison"] == verdict["comparison"]


def test_one_condition_alone_has_no_parts(digits_model, day, tmp_path):
    live = from_list(day[:80])
    result = build(digits_model, from_list(day[:80]), tmp_path / "b", OPTIONS, live=live)
    assert result.verdict.parts == {}
    assert "old" not in result.verdict.as_dict()


def test_an_engine_that_is_no_better_where_the_inputs_changed_is_refused(recalibrate, day):
    message, verdict = refused(recalibrate, changed(day[80:], lambda x: x))
    assert "the engine that serves stays" in message
    assert "no better by more than chance" in message
    assert verdict["passed"]  # the gate had nothing against it
    assert verdict["comparison"]["new"]["samples"] > 10


def test_a_night_far_darker_than_the_days_does_not_make_glitches_of_them(recalibrate, day):
    """Most frames are 50 times darker; screened together the others would be left out."""
    _, verdict = refused(recalibrate, changed(day[60:], lambda x: x * 0.02), day[:60])
    assert verdict["old"]["agreement"] == 1.0


def test_huge_values_cannot_stretch_the_ranges_of_the_others(recalibrate, day):
    """The poison is refused by what the days still need: 300 times brighter leaves them 1 code."""
    poison = changed(day[80:], lambda x: x * 300)
    message, verdict = refused(recalibrate, poison, method="max")
    assert "old samples" in message
    assert not verdict["old"]["passed"]
    assert verdict["new"]["passed"]


def test_a_slow_growth_ends_at_the_gate_of_the_first_samples(recalibrate, day):
    """Each step passed, and its samples are most of the old ones now: the first stratum decides."""
    days = [f"2026111{step}T000000Z" for step in range(1, 4)]
    steps = [
        changed(day[20 * step : 20 * step + 60], lambda x, more=step: x * (300 + more), name)
        for step, name in enumerate(days, 1)
    ]
    frog = changed(day[80:], lambda x: x * 310)
    message, verdict = refused(
        recalibrate, frog, [*day[:60], *chain.from_iterable(steps)], method="max"
    )
    assert "samples before: output" in message
    assert not verdict["strata"]["before"]["passed"]
    assert all(verdict["strata"][name]["passed"] for name in days)


def test_random_noise_is_no_reason_to_serve_another_engine(recalibrate, day, digits_model):
    draw = np.random.default_rng(0)
    noise = changed(day[80:], lambda x: draw.uniform(0, 255, x.shape))
    try:
        result = recalibrate(noise)
    except GateError:
        return
    assert result.verdict.parts["old"].agreement >= 0.95
    assert not result.comparison.old.chooses_worse


def test_frames_at_the_rails_and_frames_of_nan_cost_the_others_no_choice(recalibrate, day):
    rails = [Sample(sample_id(i), i, NIGHT) for i in _rails(day[0])]
    result = recalibrate(rails)
    assert result.verdict.parts["old"].agreement >= 0.95
    assert result.comparison.old.lost == 0
    assert [d.id for d in result.dropped] == [rails[-1].id]  # the one of NaN


def _rails(like: Sample) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    (name,), (values,) = like.inputs.keys(), like.inputs.values()
    halves = [np.where(draw.random(values.shape) < 0.5, 0, 255) for _ in range(40)]
    frames = [np.asarray(half, np.float32) for half in halves]
    return [{name: f} for f in frames] + [{name: np.full_like(values, np.nan)}]


def test_samples_of_which_none_is_held_out_cannot_decide(recalibrate, day):
    brighter = [s for s in changed(day[80:], lambda x: x * 3) if not is_held_out(s.id, 0.25)]
    message, _ = refused(recalibrate, brighter)
    assert "none of the new samples is held out" in message
