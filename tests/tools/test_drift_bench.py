"""The benchmark of drift detection on a made-up camera, whose truth is known."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from edgeq.drift.window import Window
from tests.drift.streams import STREAMS, frames_of
from tools.drift_bench import program
from tools.drift_bench.cases import Case, Counts, blurred, darker
from tools.drift_bench.held import held_alarms
from tools.drift_bench.peers import NO_DRIFT, compare
from tools.drift_bench.simulate import MIX, STUCK, detections, false_alarms
from tools.drift_bench.table import detection_table, false_alarm_table, held_table, peers_table
from tools.drift_bench.windows import RUN, Frames

DARK = "brightness x 0.5"


def counts_of(seed: int, count: int, **drift: float) -> Counts:
    frames = frames_of(np.random.default_rng(seed), count, **drift)
    return {s.name: np.stack([frame[s.name] for frame in frames]) for s in STREAMS}


@pytest.fixture(scope="module")
def case() -> Case:
    frames = counts_of(0, 200)
    labels = frames["probs/class"].argmax(axis=1)
    return Case("camera", "image", STREAMS, frames, {DARK: counts_of(0, 200, gain=0.5)}, labels)


def test_the_windows_are_those_that_adding_frame_by_frame_leaves(case):
    frames = Frames.of(case.frames)
    places = np.random.default_rng(1).integers(0, case.size, 60)
    left = frames.windows(places, 10)
    for name in case.frames:
        window = Window(10)
        for place in places:
            window.add(frames.at(place)[name])
        assert np.allclose(left[name].to_array(), window.to_array())
    assert len(places) > RUN * 10


def test_without_drift_few_windows_alarm(case):
    (row,) = false_alarms(case, references=5, size=64, windows=[50], each=2)
    assert row.windows == 10
    assert row.ratio <= row.bare_ratio <= 0.2
    assert "camera" in false_alarm_table([row])


def test_drifts_are_found_and_told_apart(case):
    rows = {row.drift: row for row in detections(case, runs=2, size=64, window=50)}
    assert rows.keys() == {DARK, MIX, STUCK}
    assert rows[DARK].found_ratio == 1.0
    assert rows[DARK].median is not None
    assert rows[DARK].median <= 50
    assert "darker" in rows[DARK].reason
    assert rows[STUCK].median is not None
    assert "2" in detection_table(list(rows.values()))


def test_scenes_that_are_held_alarm_less_with_the_correction(case):
    (row,) = held_alarms(case, references=2, size=64, window=20, times=[10])
    assert row.ratio <= row.uncorrected_ratio
    assert "10 times" in held_table([row])


def test_edgeq_s_own_verdict_stands_beside_what_the_peers_child_prints(case, tmp_path):
    child = tmp_path / "python"
    row = {"tool": "peer", "windows": NO_DRIFT, "any_column": 0.5, "half_of_columns": 0.0,
           "figures": {"image/brightness": 0.1}}  # fmt: skip
    child.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps([row]))})\n")
    child.chmod(0o755)
    rows = compare(case, child, reference_frames=64, window=50, each=2)
    assert [row.tool for row in rows] == ["edgeq", "edgeq", "peer"]
    assert {row.windows: row.any_column for row in rows[:2]} == {NO_DRIFT: 0.0, DARK: 1.0}
    assert "peer" in peers_table(rows)


def test_darkness_and_blur_do_what_they_say():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 4, 4, 0] = 90.0
    assert darker(image).sum() == 45.0
    soft = blurred(image)
    assert soft.sum() == pytest.approx(90.0)
    assert soft.max() == pytest.approx(10.0)


def test_what_is_missing_is_told(tmp_path, capsys):
    assert program.main("", ["--data", str(tmp_path)]) == 2
    assert "tasks.json" in capsys.readouterr().err
    assert program.main("", ["--only", "nothing"]) == 2
    assert "there is no task 'nothing'" in capsys.readouterr().err
