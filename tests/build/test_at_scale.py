"""Builds over what they must bear: many samples, live samples, real models."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from edgeq.build.options import BuildOptions
from edgeq.build.pipeline import build
from edgeq.bundle import Bundle
from edgeq.drift.options import DriftOptions
from edgeq.drift.watch import StreamWatch, Watched
from edgeq.engines.cpu import CpuEngine
from edgeq.samples.store import Sample
from tests import tiny
from tests.build_samples import from_list, sample
from tests.shared_models import calibration_samples, shared_tasks


def test_drift_is_measured_against_the_live_samples_where_there_are_some(
    digits_model, digits_samples, tmp_path
):
    (name,) = digits_samples[0].inputs
    dark = [sample(**{name: s.inputs[name] * np.float32(0.5)}) for s in digits_samples]

    def bundle(folder: str, live: list[Sample] | None) -> Bundle:
        source = from_list(digits_samples)
        given = None if live is None else from_list(live)
        options = BuildOptions(method="max")
        return build(digits_model, source, tmp_path / folder, options, live=given).bundle

    def is_drift(against: Bundle) -> bool:
        watched = Watched(against.read("drift.npz"), against.read("int8.tflite"))
        watch = StreamWatch(watched, DriftOptions(window=len(dark), activation_interval_s=1e-6))
        engine = CpuEngine(against.read("int8.tflite"), "cpu-int8", threads=1)
        for frame in dark:
            watch.see(frame.inputs, engine.infer(frame.inputs))
        return watch.check().active

    assert is_drift(bundle("bright", None))
    assert not is_drift(bundle("dark", dark))


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    shape = (1, 32, 32, 4)  # 16 KiB a sample
    content = tiny.one_op_model("TANH", shape).to_bytes()

    def peak(count: int) -> int:
        draws = [np.random.default_rng(seed) for seed in range(count)]
        states = [draw.bit_generator.state for draw in draws]

        def source() -> Iterator[Sample]:
            for draw, state in zip(draws, states, strict=True):
                draw.bit_generator.state = state
                yield sample(x=draw.normal(size=shape).astype(np.float32))

        tracemalloc.start()
        try:
            build(content, source, tmp_path / str(count), BuildOptions(method="max"))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Of up to 512, what they show is kept: drift is measured against it.
    assert peak(1200) - peak(600) < 1 << 20  # the samples themselves are 9.4 MiB


SLOW_TO_REFINE = {"ultraface_slim320", "deeplabv3_257"}  # 14 s together, of 20 s for all seven


@pytest.mark.shared
@pytest.mark.parametrize(
    "task_id",
    ["resnet8_cifar10", "vww96", "kws_dscnn", "ad01", "mobilenet_v1_025_224",
     "ultraface_slim320", "deeplabv3_257"],
)  # fmt: skip
def test_a_real_model_builds_and_passes(task_id, shared, tmp_path):
    task = shared_tasks(shared)[task_id]
    samples = calibration_samples(shared, task, most=12)
    content = (shared / "data" / task["model"]).read_bytes()
    options = BuildOptions(method="entropy", refine=task_id not in SLOW_TO_REFINE)
    result = build(content, from_list(samples), tmp_path / "b", options)
    assert result.verdict.passed
    assert result.float_ops == ()
    assert Bundle.open(tmp_path / "b").manifest.engine == "cpu-int8"


@pytest.mark.shared
def test_every_shared_float_model_is_among_the_built_ones(shared):
    built_models = {"resnet8_cifar10", "vww96", "kws_dscnn", "ad01", "mobilenet_v1_025_224",
                    "ultraface_slim320", "deeplabv3_257"}  # fmt: skip
    assert set(shared_tasks(shared)) == built_models
