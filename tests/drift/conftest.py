from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgeq.build.baseline import measure_baseline
from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable
from edgeq.drift.reference import DriftReference
from edgeq.drift.watch import Watched
from edgeq.engines.cpu import CpuEngine
from edgeq.quantize.convert import quantize
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Digits:
    """The digits model in INT8, and frames with what it answers."""

    int8: Model
    table: CalibrationTable
    reference: DriftReference
    watched: Watched
    frames: list[Arrays]
    answers: list[Arrays]

    def answer(self, frame: Arrays) -> Arrays:
        engine = CpuEngine(self.int8.to_bytes(), "cpu-int8", threads=1)
        return engine.infer(frame)


@pytest.fixture(scope="session")
def int8_digits(digits_model: bytes, digits_samples: list[Sample]) -> Digits:
    model = Model.from_bytes(digits_model)
    histograms = collect(model, digits_samples, threads=1).histograms
    table = CalibrationTable.from_histograms("0", "percentile", len(digits_samples), histograms)
    int8 = quantize(model, table).model
    frames = [sample.inputs for sample in digits_samples]
    reference = measure_baseline(int8, frames, {}, 1)
    watched = Watched(reference.to_npz(), int8.to_bytes(), table.tensors)
    engine = CpuEngine(int8.to_bytes(), "cpu-int8", threads=1)
    answers = [engine.infer(frame) for frame in frames]
    return Digits(int8, table, reference, watched, frames, answers)
