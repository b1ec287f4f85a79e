"""Samples that stand for nothing are doubted; usual ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq.calibrate.survey as survey
from edgeq.calibrate.collect import SampleWarning, collect
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from tests.shared_models import calibration_samples, shared_tasks
from tests.tiny import GraphBuilder, tiny_model

FRAMES = 24
SIDE = 32


def classifier(channels: int = 3, side: int = SIDE) -> Model:
    """'image' [1, side, side, channels] -> mean by channel -> softmax 'scores'."""
    g = GraphBuilder({"image": (1, side, side, channels)})
    axes = g.constant("axes", np.array([1, 2], np.int32), "INT32")
    mean = g.op("MEAN", [0, axes], ("mean", (1, channels)), options="ReducerOptions")
    scores = g.op("SOFTMAX", [mean], ("scores", (1, channels)), options="SoftmaxOptions", beta=20.0)
    return g.finish(scores)


def pictures(count: int = FRAMES, seed: int = 0) -> np.ndarray:
    """Smooth random pictures in [0, 1]; the brightest channel differs from one to the next."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(size=(count, SIDE // 8, SIDE // 8, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    fine[np.arange(count), :, :, np.arange(count) % 3] = 1
    fine[:, 0, 0] = 0
    return fine.astype(np.float32)


def warnings_of(images: np.ndarray, model: Model | None = None) -> tuple[SampleWarning, ...]:
    samples = [Sample(f"{i:03}", {"image": image[np.newaxis]}) for i, image in enumerate(images)]
    return collect(model or classifier(), samples, screening=None).warnings


def kinds_of(images: np.ndarray, model: Model | None = None) -> list[str]:
    return [warning.kind for warning in warnings_of(images, model)]


@pytest.mark.parametrize(
    "scaled",
    [
        lambda x: x,
        lambda x: 2 * x - 1,
        lambda x: 255 * x,
        lambda x: 255 * x - 128,
        lambda x: (x - 0.45) / 0.22,  # by mean and standard deviation
        lambda x: 3000 * x,  # of a thermal camera, say
    ],
)
def test_usual_pictures_are_not_doubted(scaled: Any) -> None:
    assert kinds_of(scaled(pictures()).astype(np.float32)) == []


@pytest.mark.parametrize(
    ("dark", "share"),
    [
        (lambda x: x / 4, "25% of [0, 1]"),
        (lambda x: 255 * x / 4, "25% of [0, 255]"),
        (lambda x: x / 2 - 1, "25% of [-1, 1]"),
        (lambda x: 40 * x - 128, "16% of [-128, 128]"),
    ],
)
def test_dark_pictures_are_doubted(dark: Any, share: str) -> None:
    (warning,) = warnings_of(dark(pictures()).astype(np.float32))
    assert warning.kind == "dark or flat"
    assert share in warning.message
    assert "scaled" in warning.hint


def test_noise_is_doubted() -> None:
    noise = np.random.default_rng(0).normal(size=(FRAMES, SIDE, SIDE, 3)).astype(np.float32)
    warning = next(w for w in warnings_of(noise) if w.kind == "noise")
    assert "'image'" in warning.message


def test_constant_frames_are_doubted_where_they_are_many() -> None:
    images = pictures(40)
    images[:4] = 0.5
    assert kinds_of(images) == []
    images[:12] = np.linspace(0, 1, 12, dtype=np.float32)[:, None, None, None]
    (warning,) = warnings_of(images)
    assert warning.message.startswith("12 of 40 samples hold one value only")


def test_a_single_bright_pixel_is_not_a_constant_frame() -> None:
    images = np.zeros((FRAMES, SIDE, SIDE, 3), np.float32)
    images[np.arange(FRAMES), 1, np.arange(FRAMES), np.arange(FRAMES) % 3] = 1
    assert "constant" not in kinds_of(images)


def test_one_class_alone_is_doubted() -> None:
    images = pictures()
    images[..., 1] = 1
    images[..., [0, 2]] *= 0.9
    (warning,) = warnings_of(images)
    assert warning.kind == "one class"
    assert "all 24 samples have their highest score at class 1 of 'scores'" in warning.message
    assert kinds_of(images[:10]) == []


def test_many_alike_are_doubted() -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, (FRAMES, SIDE, SIDE, 3))
    images = (pictures(4)[np.arange(FRAMES) % 4] + noise).astype(np.float32)
    (warning,) = warnings_of(images)
    assert warning.kind == "alike"
    assert "of 24 samples of 'image' only 4 are different" in warning.message


def test_what_is_no_picture_has_no_neighbours() -> None:
    g = GraphBuilder({"image": (1, 40)})
    model = g.finish(g.op("RELU", g.inputs, ("y", (1, 40))))
    vectors = np.random.default_rng(0).normal(size=(FRAMES, 40)).astype(np.float32)
    assert kinds_of(vectors, model) == []
    assert kinds_of(vectors.repeat(2, axis=0)[:FRAMES], model) == ["alike"]


def test_outputs_that_are_no_scores_have_no_class() -> None:
    g = GraphBuilder({"image": (1, 4)})
    model = g.finish(g.op("RELU", g.inputs, ("y", (1, 4))))
    vectors = np.random.default_rng(0).normal(size=(FRAMES, 4))
    vectors[:, 0] += 9
    assert kinds_of(vectors.astype(np.float32), model) == []


def test_one_sample_is_not_doubted() -> None:
    assert kinds_of(pictures(1)) == []


def test_the_order_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_THUMBNAILS", 20)
    monkeypatch.setattr(survey, "WAITING", 3)
    images = np.concatenate([pictures(30)[:10].repeat(6, axis=0), pictures(8, seed=1)])
    expected = warnings_of(images)
    assert [w.kind for w in expected] == ["alike"]
    for seed in range(3):
        assert warnings_of(np.random.default_rng(seed).permutation(images)) == expected


def test_the_tiny_model_s_own_samples_are_no_pictures() -> None:
    assert not survey.is_image((8, 8, 3))
    samples = [Sample(str(i), {"image": np.zeros((1, 8, 8, 3), np.float32)}) for i in range(4)]
    assert [w.kind for w in collect(tiny_model(), samples).warnings] == ["constant"]


@pytest.mark.shared
@pytest.mark.parametrize("task", ["resnet8_cifar10", "vww96", "kws_dscnn", "ad01"])
def test_real_calibration_sets_are_not_doubted(shared: Path, task: str) -> None:
    tasks = shared_tasks(shared)
    model = Model.read(shared / "data" / tasks[task]["model"])
    samples = calibration_samples(shared, tasks[task], 64)
    assert collect(model, samples).warnings == ()
    name, values = next(iter(samples[0].inputs.items()))
    random = np.random.default_rng(0)
    noise = [
        Sample(str(i), {name: random.normal(size=values.shape).astype(np.float32)})
        for i in range(32)
    ]
    assert {w.kind for w in collect(model, noise).warnings} == {
        "resnet8_cifar10": {"noise", "one class"},
        "vww96": {"noise", "one class"},
        "kws_dscnn": {"one class"},
        "ad01": set(),
    }[task]
