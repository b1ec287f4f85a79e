"""The peers' own parts that need no GPU; without torch they skip themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests import tiny
from tests.tiny import GraphBuilder
from tools.gpu_bench.convolutions import Convolution
from tools.workloads.nets import WORKLOADS, Workload
from tools.workloads.quantized import int8_form

torch = pytest.importorskip("torch", reason="torch is not installed")

from tools.gpu_bench.peers import Absent, compiled, int_mm  # noqa: E402 - they import torch
from tools.gpu_bench.peers.torch_net import UnsupportedOp, torch_net  # noqa: E402

PRODUCT = Convolution(0, 1, 8, 8, 64, 128, 8, 8)


def sqnr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / max(((wanted - got) ** 2).sum(), 1e-30)))


def test_the_translated_net_is_the_float_model():
    model = tiny.tiny_model()
    inputs = tiny.tiny_inputs()
    (scores,) = torch_net(model)(torch.from_numpy(inputs["image"]))
    assert sqnr_db(Runner(model.to_bytes()).run(inputs)["scores"], scores.numpy()) > 100


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_is_translated(workload: Workload):
    net = workload.make(64, 0.25)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    expected = Runner(net.model.to_bytes(), batch=2).run({"image": image}).values()
    results = [result.numpy() for result in torch_net(net.model)(torch.from_numpy(image))]
    assert [result.shape for result in results] == [wanted.shape for wanted in expected]
    assert all(sqnr_db(w, r) > 80 for w, r in zip(expected, results, strict=True))
    assert torch_net(int8_form(net)).graph  # and with the ops that quantizing adds


def test_torch_compile_takes_the_net_in_one_piece():
    net = torch_net(tiny.tiny_model())
    image = torch.from_numpy(tiny.tiny_inputs()["image"])
    compiled_net = torch.compile(net, fullgraph=True, backend="eager")
    assert torch.equal(compiled_net(image)[0], net(image)[0])


def test_an_op_without_a_translation_is_named():
    graph = GraphBuilder({"x": (1, 4)})
    model = graph.finish(graph.op("RSQRT", [0], ("y", (1, 4))))
    with pytest.raises(UnsupportedOp, match="RSQRT"):
        torch_net(model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_torch_s_peers_are_absent():
    for measure in (lambda: compiled.measure(tiny.tiny_model(), 1, 0.1),
                    lambda: int_mm.measure([PRODUCT])):  # fmt: skip
        with pytest.raises(Absent, match="no GPU"):
            measure()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"size": (3, 3)}, "not a matrix product"),
        ({"stride": (2, 2)}, "not a matrix product"),
        ({"oh": 4, "ow": 4}, "16 rows; it takes 17 or more"),
        ({"oc": 10}, "extents that are no multiples of 8"),
    ],
)
def test_int_mm_takes_large_products_only(changes, reason):
    assert int_mm.why_not(replace(PRODUCT, **changes)) == reason


def test_weights_keep_what_int8_made_of_them():
    model = int8_form(WORKLOADS[1].make(32, 0.125))
    net = torch_net(model)
    op = next(op for op in model.operators if model.op_name(op) == "CONV_2D")
    raw, quantization = model.constant(op.inputs[1]), model.quantization(op.inputs[1])
    kernel = net.get_buffer(f"constant_{op.inputs[1]}").permute(0, 2, 3, 1).numpy()
    assert np.allclose(kernel, raw * quantization.scale.reshape(-1, 1, 1, 1))
    assert isinstance(model, Model)
