from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tools import make_models
from tools.workloads import nets
from tools.workloads.layers import NetBuilder
from tools.workloads.nets import WORKLOADS, Workload
from tools.workloads.quantized import int8_form, write_workloads

OPS = {
    "resnet50_224": {"PAD", "MAX_POOL_2D", "ADD", "MEAN", "SOFTMAX"},
    "mobilenet_v1_224": {"DEPTHWISE_CONV_2D", "FULLY_CONNECTED"},
    "mobilenet_v2_224": {"DEPTHWISE_CONV_2D", "ADD"},
    "ssd_mobilenet_v1_300": {"RESHAPE", "CONCATENATION", "LOGISTIC"},
    "yolov8n_640": {
        "LOGISTIC", "MUL", "STRIDED_SLICE", "CONCATENATION", "MAX_POOL_2D",
        "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX",
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=WORKLOADS, ids=lambda workload: workload.name)
def workload(request: pytest.FixtureRequest) -> Workload:
    return request.param


@pytest.fixture(scope="module")
def small(workload: Workload) -> Model:
    """A quarter as wide, 64 pixels high."""
    return int8_form(workload.make(64, 0.25))


def images(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 64, 64, 3)).astype(np.float32)


def test_every_weighted_op_is_int8_and_the_known_ops_are_there(workload, small):
    check_structure(small)
    names = [small.op_name(op) for op in small.operators]
    assert set(names) >= OPS[workload.name] | {"CONV_2D"}
    for op in small.operators:
        if small.op_name(op) not in ("QUANTIZE", "DEQUANTIZE"):
            assert small.type_name(op.outputs[0]) == "INT8"


def test_the_outputs_are_finite_and_neither_constant_nor_saturated(small):
    runner = Runner(small.to_bytes())
    answers = [runner.run({"image": image[None]}) for image in images(2)]
    assert len(answers[0]) == 2
    for first, second in zip(*(a.values() for a in answers), strict=True):
        values, counts = np.unique(first, return_counts=True)
        assert np.isfinite(first).all()
        assert len(values) >= 6
        ends = [counts[0], counts[-1]] if values[0] else [counts[-1]]  # scores are mostly 0
        assert max(ends) <= 0.2 * first.size
        assert (first != second).any()


def test_a_batch_gives_each_image_s_own_answer(small):
    content, batch = small.to_bytes(), images(3)
    together = Runner(content, batch=3).run({"image": batch})
    alone = Runner(content)
    for position, image in enumerate(batch):
        for name, values in alone.run({"image": image[None]}).items():
            assert np.array_equal(together[name][position], values[0])


def test_the_same_file_comes_out_each_time(workload):
    first, second = (int8_form(workload.make(32, 0.125)).to_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (nets.resnet50, 25.5e6, 25.6e6),
        (nets.mobilenet_v1, 4.2e6, 4.3e6),
        (nets.mobilenet_v2, 3.4e6, 3.6e6),
        (nets.yolov8n, 3.1e6, 3.2e6),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_full_width_has_the_papers_number_of_parameters(make, least, most):
    net = make(64, 1.0).model  # the image's size changes no weight
    weights = [net.constant(index) for index in range(len(net.tensors))]
    assert least <= sum(w.size for w in weights if w is not None and w.ndim != 0) <= most


def test_an_op_that_would_stay_float_is_no_workload():
    net = NetBuilder(8, seed=0)
    flat = net.softmax(net.dense(net.global_average(net.image), 1000, spread=0.01))
    with pytest.raises(ValueError, match="SOFTMAX"):
        int8_form(net.finish(flat))


def test_files_are_written_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tiny = Workload("mobilenet_v1_224", nets.mobilenet_v1, 32)
    monkeypatch.setattr("tools.workloads.quantized.WORKLOADS", (tiny, WORKLOADS[0]))
    (path,) = write_workloads(tmp_path / "new", ["mobilenet_v1_224"])
    assert path == tmp_path / "new/mobilenet_v1_224.tflite"
    assert Model.read(path).op_name(Model.read(path).operators[0]) == "QUANTIZE"


def test_the_command_makes_workloads_and_leaves_the_data_alone(tmp_path, monkeypatch, capsys):
    asked = []
    made = tmp_path / "x.tflite"
    made.write_bytes(bytes(2_000_000))

    def write(folder: Path, only: list[str]) -> list[Path]:
        asked.append((folder, only))
        return [made]

    monkeypatch.setattr(make_models, "write_workloads", write)
    monkeypatch.setattr(sys, "argv", ["make_models", "--workloads", str(tmp_path), "resnet50_224"])
    make_models.main()
    assert asked == [(tmp_path, ["resnet50_224"])]
    assert "2.0 MB" in capsys.readouterr().out
