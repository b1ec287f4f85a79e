from __future__ import annotations

import numpy as np
import pytest

from edgeq.drift.null import LEAST_FRAMES, TAIL, WINDOWS, measure_null
from edgeq.drift.stream import Stream
from tests.drift.streams import STREAMS, counted, frames_of


def counts_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    frames = frames_of(np.random.default_rng(seed), count)
    return {s.name: np.stack([frame[s.name] for frame in frames]) for s in STREAMS}


def test_bounds_fall_with_the_window_down_to_what_the_reference_leaves_open():
    bounds = measure_null(STREAMS, counts_of(64)).bounds(0.01)[:, :, 0]
    assert (bounds[0] > bounds[3]).all()
    assert (bounds[3] > bounds[6]).all()
    larger = measure_null(STREAMS, counts_of(512)).bounds(0.01)[:, :, 0]
    assert (larger[-1] < bounds[-1]).all()


def test_rarer_false_alarms_need_higher_bounds():
    null = measure_null(STREAMS, counts_of(64))
    often, seldom, least = (null.bounds(ratio) for ratio in (TAIL, 0.01, 0.001))
    assert (often[:, :, 0] <= seldom[:, :, 0]).all()
    assert (seldom[:, :, 0] < least[:, :, 0]).all()


def test_more_streams_are_held_to_the_same_rate_together():
    """The chance that any of them alarms is what is bounded, so each is bounded tighter."""
    counts = counts_of(64)
    draw = np.random.default_rng(1)
    more = [Stream(f"noise_{n}", "scalar", "x", 0.0, 255.0) for n in range(12)]
    noise = {s.name: np.stack([counted(c) for c in draw.integers(0, 256, 64)]) for s in more}
    alone = measure_null(STREAMS, counts).bounds(0.01)
    together = measure_null([*STREAMS, *more], {**counts, **noise}).bounds(0.01)[:, : len(STREAMS)]
    assert together[:, :, 0].mean() > alone[:, :, 0].mean()
    copies = [Stream(f"image_{n}", "input", "image", 0.0, 255.0) for n in range(12)]
    same = measure_null(
        [*STREAMS, *copies], {**counts, **{s.name: counts["image"] for s in copies}}
    )
    assert np.allclose(same.bounds(0.01)[:, : len(STREAMS)], alone)  # what is alike costs nothing


def test_it_is_the_same_every_time():
    one, other = (measure_null(STREAMS, counts_of(16)) for _ in range(2))
    assert np.array_equal(one.bounds(0.01), other.bounds(0.01))


def test_frames_that_lack_a_stream_do_not_count_for_it():
    counts = counts_of(64)
    counts["image"][32:] = 0
    null = measure_null(STREAMS, counts)
    assert null.frames.tolist() == [32, 64, 64]
    whole = measure_null(STREAMS, {n: rows[:32] for n, rows in counts.items()})
    assert null.center[3, 0] == pytest.approx(whole.center[3, 0], rel=0.1, abs=0.02)


def test_too_few_frames_tell_nothing():
    null = measure_null(STREAMS, counts_of(LEAST_FRAMES - 1))
    assert not null.spread.any()


def test_no_stream_at_all_is_nothing_to_measure():
    assert measure_null([], {}).bounds(0.01).shape == (len(WINDOWS), 0, 3)
