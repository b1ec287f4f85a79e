from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.bench_capture import DIGITS, SETTINGS, frames_of, make_parser, summary


def blocks(*p99: float) -> list[dict[str, object]]:
    order = (False, True, True, False)
    return [{"on": order[n % 4], "p50_ms": 1.0, "p99_ms": value} for n, value in enumerate(p99)]


def test_ratios_are_of_neighbours_on_over_off_in_either_order():
    figures = summary(blocks(1.0, 1.2, 2.2, 2.0))
    assert figures["p99_ms_ratio"] == pytest.approx(1.15)
    assert figures["p50_ms_ratio"] == 1.0
    assert (figures["p99_ms_off"], figures["p99_ms_on"]) == pytest.approx((1.5, 1.7))


def test_the_settings_differ_by_the_ratio_of_capture_alone():
    off, on = (SETTINGS.format(samples=64, ratio=ratio, policy="alert") for ratio in (0.0, 1.0))
    assert off.replace("capture_ratio: 0.0", "capture_ratio: 1.0") == on


def test_frames_are_what_the_model_takes():
    options = make_parser().parse_args([])
    name, output, frames = frames_of(options.model, options.data, options.divide)
    assert (name, output, frames.shape[1:]) == ("image", "scores", (1, 16, 16, 1))
    assert frames.dtype == np.float32
    assert options.model.parent == DIGITS == Path(DIGITS)
