from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.quantize.pooling import pools_as_means
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny
from tests.quantize.minmax import minmax_table

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU = schema.ActivationFunctionType.RELU


def pooled(window=(4, 6), output=(1, 1), *, padding=VALID, stride=(4, 6), fused=0) -> Model:
    """'x' [1, 4, 6, 3] -> AVERAGE_POOL_2D -> 'y'."""
    g = tiny.GraphBuilder({"x": (1, 4, 6, 3)})
    y = g.op("AVERAGE_POOL_2D", g.inputs, ("y", (1, *output, 3)), options="Pool2DOptions",
             padding=padding, strideH=stride[0], strideW=stride[1], filterHeight=window[0],
             filterWidth=window[1], fusedActivationFunction=fused)  # fmt: skip
    return g.finish(y)


def ops(model: Model) -> list[str]:
    return [model.op_name(operator) for operator in model.operators]


def drawn(count: int = 16) -> list[dict[str, tiny.Array]]:
    """Frames of one tall peak and many small values: their average is far below their maximum."""
    draw = np.random.default_rng(0)
    frames = [draw.uniform(0, 1, (1, 4, 6, 3)).astype(np.float32) for _ in range(count)]
    for frame in frames:
        frame[0, 1, 1] = 20.0
    return [{"x": frame} for frame in frames]


@pytest.mark.parametrize("padding", [SAME, VALID])
def test_an_average_over_the_whole_map_becomes_a_mean(padding):
    model = pooled(padding=padding)
    changed = model.copy()
    pools_as_means(changed)
    assert ops(changed) == ["MEAN"]
    given = drawn(1)[0]
    before = Runner(model.to_bytes()).run(given)["y"]
    np.testing.assert_allclose(Runner(changed.to_bytes()).run(given)["y"], before, rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        pooled((2, 2), (2, 3), stride=(2, 2)),
        pooled((3, 6), (1, 1), stride=(4, 6)),
        pooled(fused=RELU),
    ],
    ids=["part of the map", "all but a row", "with an activation"],
)
def test_other_pools_stay(model):
    changed = model.copy()
    pools_as_means(changed)
    assert ops(changed) == ["AVERAGE_POOL_2D"]


def test_a_map_of_free_size_keeps_its_pool():
    model = pooled()
    model.tensors[0].shapeSignature = np.array([1, -1, -1, 3], np.int32)
    pools_as_means(model)
    assert ops(model) == ["AVERAGE_POOL_2D"]


def test_a_free_batch_does_not_matter():
    model = pooled()
    model.tensors[0].shapeSignature = np.array([-1, 4, 6, 3], np.int32)
    pools_as_means(model)
    assert ops(model) == ["MEAN"]


def test_two_pools_share_one_constant():
    g = tiny.GraphBuilder({"a": (1, 4, 6, 3), "b": (1, 4, 6, 3)})
    window = {"filterHeight": 4, "filterWidth": 6, "strideH": 1, "strideW": 1}
    pools = [
        g.op("AVERAGE_POOL_2D", [tensor], (name, (1, 1, 1, 3)), options="Pool2DOptions",
             padding=VALID, **window)
        for tensor, name in zip(g.inputs, "yz", strict=True)
    ]  # fmt: skip
    model = g.finish(*pools)
    count = len(model.tensors)
    pools_as_means(model)
    assert ops(model) == ["MEAN", "MEAN"]
    assert len(model.tensors) == count + 1


def test_the_int8_mean_has_a_range_of_its_own():
    model, samples = pooled(), drawn()
    quantized = quantize(model, minmax_table(model, samples)).model
    assert "MEAN" in ops(quantized)
    reference, engine = Runner(model.to_bytes()), Runner(quantized.to_bytes())
    worst = max(float(np.abs(engine.run(s)["y"] - reference.run(s)["y"]).max()) for s in samples)
    input_step = 20.0 / 255
    assert worst < input_step / 4
