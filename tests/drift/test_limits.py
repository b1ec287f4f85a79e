from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.drift.limits import Bounds, limits_of, practical_floor
from edgeq.drift.null import WINDOWS
from edgeq.drift.options import DriftOptions
from edgeq.drift.reference import DriftReference
from edgeq.drift.stream import Stream
from tests.drift.streams import IMAGE, STREAMS, frames_of, reference_of

NO_FLOOR = DriftOptions(psi=1e-9)


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    return reference_of(64)


def test_thresholds_fall_with_the_window(reference):
    for limits in limits_of(reference, NO_FLOOR).values():
        found = [limits.at(frames).statistic for frames in (10, 30, 80, 300, 1500)]
        assert found == sorted(found, reverse=True)


def test_between_two_windows_they_lie_between(reference):
    limits = limits_of(reference, NO_FLOOR)["image"]
    assert limits.at(50).statistic > limits.at(70).statistic > limits.at(100).statistic
    assert limits.at(1).statistic == limits.at(WINDOWS[0]).statistic
    assert limits.at(1e6).statistic == limits.at(WINDOWS[-1]).statistic


def test_what_does_not_matter_is_no_drift_however_sure_it_is(reference):
    limits = limits_of(reference, DriftOptions(psi=0.5))
    assert limits["image"].at(5000).statistic == 0.5
    assert limits["image/brightness"].at(5000).statistic == pytest.approx(math.sqrt(0.5))
    assert limits["probs/class"].at(5000).statistic == pytest.approx(math.sqrt(0.5 / 8))


def test_the_floors_say_the_same_of_distributions_that_are_close():
    code = np.arange(-4000, 4000) / 1000
    p, q = (np.exp(-np.square(code - move) / 2) for move in (0.0, 0.1))
    p, q = p / p.sum(), q / q.sum()
    psi = float(((p - q) * np.log(p / q)).sum())
    middle = (p + q) / 2
    js = math.sqrt(float((p * np.log(p / middle) + q * np.log(q / middle)).sum()) / 2)
    assert practical_floor("psi", psi) == pytest.approx(0.01, rel=0.02)
    assert practical_floor("wasserstein_ratio", psi) == pytest.approx(0.1, rel=0.02)
    assert practical_floor("js_distance", psi) == pytest.approx(js, rel=0.02)


def test_a_rail_s_bound_is_over_the_reference_s_share_and_only_of_tensors():
    frames = frames_of(np.random.default_rng(0), 99)
    limits = limits_of(DriftReference.from_frames(STREAMS, frames), DriftOptions())
    share = np.mean([frame["image"][0] / frame["image"].sum() for frame in frames])
    assert limits["image"].at(200).low >= share + 0.01 + 1 / 100
    assert limits["image/brightness"].at(200).high == 1.0
    assert limits["probs/class"].at(200).low == 1.0


def test_zeros_after_a_relu_are_no_saturation():
    """Half of the values are zero, the grid's first code: a few more are not clipped."""
    draw = np.random.default_rng(0)
    relu = Stream("relu", "activation", "relu", 0.0, 6.0)
    codes = [np.clip(draw.normal(0, 40, 500), 0, 255).astype(np.int64) for _ in range(128)]
    frames = [{"relu": np.bincount(c, minlength=256).astype(np.int32)} for c in codes]
    limits = limits_of(DriftReference.from_frames([relu], frames), DriftOptions())
    assert limits["relu"].at(200).low > 0.75
    assert limits["relu"].at(200).high < 0.02


def test_a_reference_of_too_few_frames_bounds_nothing():
    frames = frames_of(np.random.default_rng(0), 3)
    limits = limits_of(DriftReference.from_frames([IMAGE], frames), DriftOptions())
    for size in (3, 100, 130, 1e5):
        assert limits["image"].at(size) == Bounds(math.inf, 1.0, 1.0)
