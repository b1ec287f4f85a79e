from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.calibrate_peers.measured import Job, Notes, measure
from tools.calibration_bench.cases import TfliteRun, replayed
from tools.calibration_bench.evalkit_tasks import (
    Task,
    _average_precision,
    _matched,
    cases_of_tasks,
    load_evalkit,
)
from tools.calibration_bench.scoring import Comparison, Score, is_scores, standard_error, top1

ROOT = Path(__file__).resolve().parents[2]


def compared(reference: list[np.ndarray], given_outputs: list[np.ndarray]) -> Comparison:
    comparison = Comparison(reference, replayed(given_outputs))
    for _ in range(len(reference[0])):
        comparison.run([])
    return comparison


def test_the_sqnr_is_of_all_frames_together_and_of_the_worst_output():
    exact, off = np.ones((4, 3)), np.full((4, 3), 10.0)
    moved = off.copy()
    moved[0] += 1  # noise 3 of a signal of 1200
    found = compared([exact, off], [exact, moved]).fidelity()
    assert found.sqnr_db == pytest.approx(10 * math.log10(1200 / 3))


def test_equal_outputs_have_no_noise_and_agree():
    values = np.random.default_rng(0).normal(size=(5, 1, 7))
    found = compared([values], [values]).fidelity()
    assert (found.sqnr_db, found.agreement) == (math.inf, 1.0)


def test_agreement_is_of_the_top_class_and_only_where_there_are_classes():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    answers = np.array([[0.8, 0.2], [0.4, 0.6], [0.4, 0.6], [0.1, 0.9]])
    assert compared([scores], [answers]).fidelity().agreement == 0.75
    restored = Comparison([scores], replayed([answers]), classes=False)
    restored.run([])
    assert restored.fidelity().agreement is None
    boxes = np.ones((4, 5, 2))
    assert compared([boxes], [boxes]).fidelity().agreement is None


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10,), True), ((1, 1, 10), True), ((1, 1), False), ((1, 4, 2), False), ((), False)],
)
def test_one_score_vector_is_told_from_maps(shape, expected):
    assert is_scores(shape) == expected


def test_an_output_of_another_shape_is_an_error_and_not_broadcast():
    comparison = Comparison([np.ones((2, 3))], lambda _: [np.ones((1, 3))])
    with pytest.raises(ValueError, match="output 0 is"):
        comparison.run([])


def test_a_tool_that_answers_as_the_float_model_has_no_standard_error():
    score = top1(np.arange(50) % 3, np.arange(50) % 2)
    assert standard_error(score, score, 100) == 0


@given(st.integers(0, 2**32 - 1))
def test_the_standard_error_is_that_of_paired_differences(seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, 400)
    reference = np.where(draw.random(400) < 0.9, labels, 3)
    tool = np.where(draw.random(400) < 0.1, 3, reference)
    scores = top1(labels, tool), top1(labels, reference)
    differences = (tool == labels).astype(float) - (reference == labels)
    assert standard_error(*scores, 400) == pytest.approx(differences.std() / 20, rel=0.2)


def test_a_metric_that_cannot_be_taken_apart_has_no_standard_error():
    whole = Score("mIoU", 0.5, 10)
    assert standard_error(whole, whole, 100) is None


@pytest.mark.shared
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_in_parts_is_evalkit_s(shared, seed):
    kit, draw = load_evalkit(shared / "data"), np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = draw.random((count, 2)) * 0.6
        return np.concatenate([corner, corner + 0.2 + 0.2 * draw.random((count, 2))], 1)

    found = [(boxes(n), draw.random(n)) for n in draw.integers(0, 20, 12)]
    truth = [(boxes(n), draw.random(n) < 0.3) for n in draw.integers(0, 6, 12)]
    parts = [
        _matched(scores, kit.iou(b, g) if len(g) and len(b) else None, ignored)
        for (b, scores), (g, ignored) in zip(found, truth, strict=True)
    ]
    assert _average_precision(parts) == pytest.approx(kit.ap(found, truth))


@pytest.mark.shared
def test_a_task_that_is_not_there_is_named(shared, tmp_path):
    with pytest.raises(SystemExit, match="yolo"):
        cases_of_tasks(shared / "data", ["yolo"], tmp_path)


@pytest.mark.shared
def test_an_anomaly_task_can_be_taken_apart_and_is_evalkit_s(shared):
    kit = load_evalkit(shared / "data")
    task = {"id": "ad01", "data": "data/ad", "kind": "anomaly", "pre": "feat"}
    scored = Task(kit, task).score(lambda frame: [0.9 * frame[0]])
    assert scored.of_parts is not None
    assert scored.of_parts(np.arange(scored.parts)) == pytest.approx(scored.value)


@pytest.mark.shared
def test_a_file_that_takes_and_gives_int8_is_run_in_float(shared):
    models = shared / "data"
    real = TfliteRun((models / "models/resnet8_cifar10_fp32.tflite").read_bytes())
    int8 = TfliteRun((models / "reference/resnet8_cifar10_int8_ref.tflite").read_bytes())
    frame = [np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)]
    (expected,), (found,) = real(frame), int8(frame)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.1


FRESH_PROCESS = """
import json, sys, time
from pathlib import Path
import numpy as np
from tools.calibrate_peers.measured import Job, measure, resident_mib

earlier = np.ones(32 << 20, np.uint8)
del earlier
held = []

def work(job, notes):
    held.append(np.ones(16 << 20, np.uint8))
    notes.lines.append("noted")
    time.sleep(0.01)

folder = Path(sys.argv[1])
report = measure(work, Job(folder, (), "", 1, folder))
print(json.dumps({**report, "hwm": resident_mib("VmHWM")}))
"""


def test_work_is_measured_by_its_own_peak_and_not_by_an_earlier_one(tmp_path):
    """In a process of its own: another's heap may have the room already."""
    ran = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    report = json.loads(ran.stdout)
    assert report["status"] == "ok"
    assert report["notes"] == ["noted"]
    assert report["seconds"] >= 0.01
    if os.path.exists("/proc/self/clear_refs"):
        assert 15 < report["above_mib"] < 30
        assert report["peak_rss_mib"] <= report["hwm"]


def test_what_a_peer_raises_is_its_answer(tmp_path):
    def work(_job: Job, _notes: Notes) -> None:
        raise LookupError("\n  no op called FOO  \nand more")

    report = measure(work, Job(tmp_path, (), "", 1, tmp_path))
    assert (report["status"], report["reason"]) == ("failed", "LookupError: no op called FOO")
