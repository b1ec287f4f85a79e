"""The shared test models are what they say."""

from __future__ import annotations

import numpy as np

from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests import tiny


def test_the_tiny_model_runs_and_gives_a_distribution(
    tiny_model_bytes: bytes, tiny_inputs: dict[str, tiny.Array]
) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    check_structure(model)
    assert [model.op_name(op) for op in model.operators] == [
        "CONV_2D", "RELU", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED",
        "SOFTMAX",
    ]  # fmt: skip
    scores = Runner(tiny_model_bytes).run(tiny_inputs)["scores"]
    assert scores.shape == (1, 4)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)


def test_other_inputs_give_other_scores(tiny_model_bytes: bytes) -> None:
    runner = Runner(tiny_model_bytes)
    winners = {int(runner.run(tiny.tiny_inputs(seed))["scores"].argmax()) for seed in range(50)}
    assert len(winners) > 1


def test_the_same_seed_gives_the_same_file() -> None:
    assert tiny.tiny_model().to_bytes() == tiny.tiny_model().to_bytes()
    assert tiny.tiny_model(1).to_bytes() != tiny.tiny_model().to_bytes()


def test_the_one_op_model_is_its_op(one_op_model_bytes: bytes) -> None:
    x = np.array([[-1, 0, 2, -3]], np.float32)
    np.testing.assert_array_equal(Runner(one_op_model_bytes).run({"x": x})["y"], x.clip(0))
