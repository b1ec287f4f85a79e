"""Bad frames change nothing but the list of the dropped; memory does not follow the samples."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq.calibrate.collect import collect
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable
from edgeq.quantize.convert import quantize
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.calibrate.batchable import batchable_model
from tests.shared_models import calibration_samples, shared_tasks
from tests.tiny import tiny_inputs

Array = np.ndarray
FIT = 200  # of ResNet-8's 300 calibration images; the others measure


def with_nan(image: Array) -> Array:
    return np.where(np.arange(image.size).reshape(image.shape) == 7, np.float32(np.nan), image)


def with_infinity(image: Array) -> Array:
    return np.where(np.arange(image.size).reshape(image.shape) == 7, np.float32(np.inf), image)


def spoilt(samples: list[Sample], spoil: Callable[[Array], Array]) -> list[Sample]:
    """Replace 1 % of the samples."""
    changed = list(samples)
    for place in range(37, len(samples), 100):
        values = {name: spoil(image) for name, image in samples[place].inputs.items()}
        changed[place] = Sample(f"bad{place}", values)
    return changed


def agreement(model: Model, histograms: dict[str, Histogram], images: list[Sample]) -> float:
    """Share of the images to which INT8 gives the float model's class."""
    table = CalibrationTable.from_histograms("0" * 64, "entropy", FIT, histograms)
    runners = [Runner(m.to_bytes()) for m in (model, quantize(model, table).model)]
    classes = [[next(iter(r.run(s.inputs).values())).argmax() for s in images] for r in runners]
    return float(np.mean(np.equal(*classes)))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: image * np.float32(20), "times brighter than the median sample"),
        (with_nan, "holds NaN or infinity"),
        (with_infinity, "holds NaN or infinity"),
        (lambda image: image[:, :-1], "has shape [1, 31, 32, 3]; the model takes [1, 32, 32, 3]"),
        (np.zeros_like, ""),  # night: dark frames are kept
    ],
    ids=["bright", "NaN", "infinite", "ragged", "black"],
)
def test_one_frame_in_a_hundred_that_is_bad_costs_no_point(
    shared: Path, spoil: Callable[[Array], Array], reason: str
) -> None:
    task = shared_tasks(shared)["resnet8_cifar10"]
    model = Model.read(shared / "data" / task["model"])
    samples = calibration_samples(shared, task, 300)
    clean = collect(model, samples[:FIT])
    bad = collect(model, spoilt(samples[:FIT], spoil))
    assert [d.id for d in bad.dropped] == (["bad37", "bad137"] if reason else [])
    assert all(reason in d.reason for d in bad.dropped)
    assert bad.samples + len(bad.dropped) == FIT
    expected = agreement(model, clean.histograms, samples[FIT:])
    assert agreement(model, bad.histograms, samples[FIT:]) > expected - 0.01 - 1e-9


def test_zeros_in_the_first_frames_do_not_narrow_the_ranges() -> None:
    usual = [Sample(f"s{i}", tiny_inputs(i)) for i in range(40)]
    zeros = [Sample(f"z{i}", {"image": np.zeros((1, 8, 8, 3), np.float32)}) for i in range(16)]
    first, last = (collect(batchable_model(), s) for s in ([*zeros, *usual], [*usual, *zeros]))
    assert first.histograms == last.histograms
    alone = collect(batchable_model(), usual)
    for name, histogram in alone.histograms.items():
        assert first.histograms[name].max == histogram.max or histogram.max <= 0
        assert first.histograms[name].count == histogram.count * 56 // 40


def test_a_frame_with_nan_does_not_spoil_the_frames_of_its_batch() -> None:
    samples = [Sample(f"s{i}", tiny_inputs(i)) for i in range(32)]
    huge = np.full((1, 8, 8, 3), 3e38, np.float32)  # finite, but no longer behind a convolution
    bad = collect(batchable_model(), [*samples[:9], Sample("huge", {"image": huge}), *samples[9:]])
    assert [d.id for d in bad.dropped] == ["huge"]
    assert "activation 'conv' holds NaN or infinity" in bad.dropped[0].reason
    assert bad.histograms == collect(batchable_model(), samples).histograms


def test_memory_does_not_follow_the_number_of_samples() -> None:
    def peak(count: int) -> int:
        def stream() -> Iterator[Sample]:
            for number in range(count):
                yield Sample(f"{number:064x}", tiny_inputs(number % 50))

        tracemalloc.start()
        try:
            collect(batchable_model(), stream())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    few, many = peak(300), peak(1500)
    assert many - few < 1200 * 250  # what is noted of each: its id, two logarithms
