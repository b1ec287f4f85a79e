"""Real trained models keep their interface and their answers in INT8."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeq.quantize.convert import is_quantized, quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests.quantize.minmax import minmax_table
from tests.tiny import Array

pytestmark = [
    pytest.mark.shared,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the scorer leaves files open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FLOORS_DB = {  # min/max ranges of 16 samples; a few dB below what was measured
    "resnet8_cifar10": 15.0,
    "vww96": 22.0,
    "kws_dscnn": 15.0,
    "ad01": 35.0,
    "mobilenet_v1_025_224": 5.0,  # the narrowest: 75 % agreement here
    "ultraface_slim320": 14.0,
    "deeplabv3_257": 18.0,
}


@pytest.fixture(scope="module")
def evalkit(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("evalkit", shared / "data" / "evalkit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _task(shared: Path, identifier: str) -> dict[str, Any]:
    tasks = json.loads((shared / "data" / "tasks.json").read_text())
    return next(task for task in tasks if task["id"] == identifier)


def _inputs(evalkit: ModuleType, task: dict[str, Any], split: str, name: str) -> list[Any]:
    samples = itertools.islice(evalkit.calibration_inputs(task, split), 16)
    return [{name: np.ascontiguousarray(sample, np.float32)} for sample in samples]


def _signal_to_noise_db(expected: Array, actual: Array) -> float:
    noise = ((expected - actual) ** 2).sum(dtype=float)
    return float(10 * np.log10((expected**2).sum(dtype=float) / noise))


@pytest.mark.parametrize("identifier", FLOORS_DB)
def test_a_trained_model_keeps_its_answers(
    shared: Path, evalkit: ModuleType, identifier: str
) -> None:
    task = _task(shared, identifier)
    content = (shared / "data" / task["model"]).read_bytes()
    model, float_runner = Model.from_bytes(content), Runner(content)
    name = float_runner.inputs[0].name
    quantized = quantize(model, minmax_table(model, _inputs(evalkit, task, "calib", name)))
    check_structure(quantized.model)
    int8 = quantized.model.to_bytes()
    assert quantized.float_ops == ()
    assert len(int8) < 0.6 * len(content)
    runner = Runner(int8)
    assert (runner.inputs, runner.outputs) == (float_runner.inputs, float_runner.outputs)
    pairs = [(float_runner.run(x), runner.run(x)) for x in _inputs(evalkit, task, "eval", name)]
    for output in runner.outputs:
        expected, actual = (np.stack([pair[i][output.name] for pair in pairs]) for i in (0, 1))
        assert _signal_to_noise_db(expected, actual) > FLOORS_DB[identifier]


def test_a_dynamic_range_model_named_float_becomes_int8(shared: Path, evalkit: ModuleType) -> None:
    content = (shared / "data" / "traps" / "kws_ref_model_float32.tflite").read_bytes()
    model, float_runner = Model.from_bytes(content), Runner(content)
    task, name = _task(shared, "kws_dscnn"), float_runner.inputs[0].name
    quantized = quantize(model, minmax_table(model, _inputs(evalkit, task, "calib", name)))
    assert quantized.float_ops == ()
    runner = Runner(quantized.model.to_bytes())
    for sample in _inputs(evalkit, task, "eval", name):
        expected, actual = (next(iter(r.run(sample).values())) for r in (float_runner, runner))
        assert np.abs(expected - actual).max() < 0.25


@pytest.mark.parametrize("file", ["resnet8_cifar10", "vww96", "kws_dscnn", "ad01"])
def test_models_quantized_elsewhere_are_recognised(shared: Path, file: str) -> None:
    path = shared / "data" / "reference" / f"{file}_int8_ref.tflite"
    assert is_quantized(Model.read(path))
