from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.files import sha256_file
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tools import make_models

DATA = Path(__file__).resolve().parents[1] / "data"
MANIFEST = json.loads((DATA / "manifest.json").read_text())["files"]
MODELS = ["digits.tflite", "digits_v2.tflite"]


@pytest.mark.parametrize("name", MANIFEST)
def test_the_committed_files_are_those_of_the_manifest(name):
    assert sha256_file(DATA / name) == MANIFEST[name]["sha256"]


@pytest.mark.parametrize("name", MODELS)
def test_the_models_are_small_sound_and_have_the_ops_worth_quantizing(name):
    model = Model.read(DATA / name)
    check_structure(model)
    assert (DATA / name).stat().st_size < 200_000
    ops = {model.op_name(op) for op in model.operators}
    assert ops >= {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "FULLY_CONNECTED", "SOFTMAX"}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_recognize_the_samples_as_well_as_the_manifest_says(name):
    runner = Runner((DATA / name).read_bytes())
    with np.load(DATA / "digits_samples.npz") as samples:
        x, y = samples["x"], samples["y"]
    right = [
        runner.run({"image": image[None].astype(np.float32)})["scores"].argmax() == label
        for image, label in zip(x, y, strict=True)
    ]
    assert x.dtype == np.uint8
    assert np.mean(right) >= 0.97
    assert np.mean(right) == pytest.approx(MANIFEST[name]["top1"], abs=0.006)


def test_the_two_versions_differ():
    assert MANIFEST[MODELS[0]]["sha256"] != MANIFEST[MODELS[1]]["sha256"]


def test_an_exported_network_answers_as_the_trained_one():
    pytest.importorskip("sklearn", reason="the maker of the models needs scikit-learn")
    from tools.make_models import export, load_images, make_network
    from tools.numpy_training import forward, softmax

    x, y = load_images()
    assert (x.shape, x.max(), y.max()) == ((1797, 16, 16, 1), 255, 9)
    network = make_network(np.random.default_rng(3))
    unit = x[:32].astype(np.float32) / 255
    forward(network, unit, training=True)
    runner = Runner(export(network).to_bytes())
    answers = [runner.run({"image": i[None].astype(np.float32)})["scores"][0] for i in x[:8]]
    assert np.allclose(answers, softmax(forward(network, unit[:8])), atol=1e-4)


def test_all_workloads_are_made_where_none_is_named(tmp_path, monkeypatch, capsys):
    asked = []

    def write(folder, names):
        asked.append((folder, names))
        return []

    monkeypatch.setattr(make_models, "write_workloads", write)
    make_models.main(["--workloads", str(tmp_path)])
    assert asked == [(tmp_path, [])]
    with pytest.raises(SystemExit):
        make_models.main(["--workloads", str(tmp_path), "resnet"])
    assert "'resnet' is unknown; there are resnet50_224" in capsys.readouterr().err
