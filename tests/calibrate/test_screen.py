"""Bright frames are set apart whatever their order, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.screen import MAX_TIERS, Brightness, Screening, Tiers


def filled(frames: list[tuple[str, float, float]]) -> Tiers:
    """Frames (id, log2 of the inputs, log2 of the activations), each one value of its own."""
    tiers = Tiers()
    for frame, inputs, activations in frames:
        (histograms,) = tiers.place([frame], [Brightness(inputs, activations)])
        histogram = histograms.setdefault("x", Histogram())
        histogram.add(np.array([2.0**inputs], np.float32))
    return tiers


def usual(count: int, seed: int = 0) -> list[tuple[str, float, float]]:
    octaves = np.random.default_rng(seed).normal(0, 0.2, (count, 2))
    return [(f"usual{i}", a, b) for i, (a, b) in enumerate(octaves.tolist())]


@pytest.mark.parametrize("glitch", [(4.3, 4.3), (4.3, 0.0), (0.0, 4.3)])
def test_a_frame_20_times_too_bright_is_left_out(glitch: tuple[float, float]) -> None:
    histograms, outliers = filled([*usual(99), ("glitch", *glitch)]).separate(Screening())
    assert [o.id for o in outliers] == ["glitch"]
    assert outliers[0].times == pytest.approx(20, rel=0.5)
    assert histograms["x"].count == 99


def test_dark_frames_are_kept() -> None:
    frames = [*usual(20), ("night", -6.0, -5.0), ("black", -149.0, -149.0)]
    assert filled(frames).separate(Screening())[1] == []


def test_near_identical_frames_are_not_scattered() -> None:
    frames = [(f"f{i}", 0.0, 0.0) for i in range(50)] + [("three times brighter", 1.58, 1.58)]
    assert filled(frames).separate(Screening())[1] == []


def test_a_tier_with_a_usual_frame_is_kept_whole() -> None:
    frames = [(f"f{i}", 0.5, 0.5) for i in range(50)]
    beyond = ("beyond", 2.6, 0.5)  # 4.3 times brighter; 4 is allowed
    assert [o.id for o in filled([*frames, beyond]).separate(Screening())[1]] == ["beyond"]
    assert filled([*frames, beyond, ("within", 2.4, 0.5)]).separate(Screening())[1] == []


def test_day_and_night_are_both_usual() -> None:
    frames = [(f"f{i}", 6.0 * (i % 2), 3.0 * (i % 2)) for i in range(40)]
    assert filled(frames).separate(Screening())[1] == []


def test_few_frames_are_not_screened() -> None:
    frames = [*usual(6), ("glitch", 9.0, 9.0)]
    assert filled(frames).separate(Screening())[1] == []
    assert len(filled([*usual(7), ("glitch", 9.0, 9.0)]).separate(Screening())[1]) == 1


def test_without_screening_every_frame_is_kept() -> None:
    histograms, outliers = filled([*usual(30), ("glitch", 9.0, 9.0)]).separate(None)
    assert (histograms["x"].count, outliers) == (31, [])


@given(st.permutations(usual(24) + [(f"g{i}", 3.0 + 2 * i, float(i)) for i in range(8)]))
@settings(deadline=None)
def test_the_order_of_the_frames_does_not_matter(frames: list[tuple[str, float, float]]) -> None:
    ordered = usual(24) + [(f"g{i}", 3.0 + 2 * i, float(i)) for i in range(8)]
    expected, outliers = filled(ordered).separate(Screening())
    got, shuffled = filled(frames).separate(Screening())
    assert got == expected
    assert set(shuffled) == set(outliers) != set()


def test_memory_stays_bounded_however_scattered_the_frames() -> None:
    frames = [(f"f{i}", float(i % 37), float(i % 41 - 100)) for i in range(300)]
    tiers = filled(frames)
    assert len(tiers._tiers) <= MAX_TIERS
    assert tiers.frames == 300
    assert tiers.separate(None)[0]["x"].count == 300


def test_brightness_is_each_frame_s_median_in_octaves() -> None:
    activations = np.array([[1.0, 0.0], [2.0, 0.0], [64.0, 0.0]])
    expected = [Brightness(3.0, 1.0), Brightness(0.0, -149)]
    assert Brightness.of(np.array([[8.0, 1.0]]), activations) == expected
    assert Brightness.of(np.zeros((0, 1)), np.ones((1, 1))) == [Brightness(0.0, 0.0)]
