"""The scale that calibration would choose from live values, over the one in use."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.calibrate.table import TensorRange
from edgeq.drift.scales import ScaleWatch, width_ratio
from edgeq.errors import CalibrationError

WINDOW = 8


def frames(count: int, factor: float = 1.0) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [{"x": (draw.normal(size=2048) * factor).astype("f4")} for _ in range(count)]


def calibrated(method: str) -> TensorRange:
    histogram = Histogram()
    for frame in frames(WINDOW):
        histogram.add(frame["x"])
    chosen = METHODS[method](histogram)
    return TensorRange(
        chosen.lo, chosen.hi, method, 0.0, chosen.clipped_ratio, histogram.min, histogram.max
    )


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse", "max"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_values_times_a_factor_would_get_a_range_times_that_factor(method: str, factor: float):
    scales = ScaleWatch({"x": calibrated(method)}, WINDOW)
    for frame in frames(WINDOW, factor):
        scales.add(frame)
    assert scales.ratios()["x"] == pytest.approx(factor, rel=0.06)


def test_the_same_frames_would_get_the_same_range():
    scales = ScaleWatch({"x": calibrated("entropy")}, 100)
    for frame in frames(WINDOW):
        scales.add(frame)
    assert scales.ratios() == {"x": 1.0}


def test_frames_older_than_two_windows_are_forgotten():
    scales = ScaleWatch({"x": calibrated("max")}, WINDOW)
    for frame in [*frames(WINDOW, 100.0), *frames(2 * WINDOW)]:
        scales.add(frame)
    assert scales.ratios()["x"] == pytest.approx(1.0, rel=0.1)


def test_what_was_seen_is_there_after_a_restart():
    before, after = (ScaleWatch({"x": calibrated("mse")}, WINDOW) for _ in range(2))
    for frame in frames(WINDOW + 3, 2.0):
        before.add(frame)
    after.restore(before.to_npz())
    assert after.ratios() == before.ratios()
    empty = ScaleWatch({"x": calibrated("mse")}, WINDOW)
    after.restore(empty.to_npz())
    assert empty.ratios() == {}


def test_a_damaged_file_is_refused():
    scales = ScaleWatch({"x": calibrated("mse")}, WINDOW)
    with pytest.raises(CalibrationError, match="cannot be read"):
        scales.restore(scales.to_npz()[:-40])


def test_inputs_that_did_not_come_or_whose_method_is_unknown_have_no_ratio():
    row = calibrated("max")
    foreign = TensorRange(row.lo, row.hi, "tensorrt", 0.0, 0.0, row.min, row.max)
    scales = ScaleWatch({"x": foreign, "y": row}, WINDOW)
    scales.add(frames(1)[0])
    assert scales.ratios() == {}


def test_of_codes_the_width_that_holds_nearly_all_is_compared():
    reference = np.zeros(256)
    reference[28:228] = 100.0
    half = np.zeros(256)
    half[78:178] = 100.0
    assert width_ratio(half, reference) == pytest.approx(0.5)
    assert width_ratio(reference, reference) == 1.0
    lone = half.copy()
    lone[0] = 0.1  # one value in 100,000
    assert width_ratio(lone, reference) == pytest.approx(0.5)
    assert width_ratio(half, np.zeros(256)) == 1.0
