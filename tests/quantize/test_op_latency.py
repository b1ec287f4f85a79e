from __future__ import annotations

import numpy as np
import pytest

from edgeq.quantize.convert import quantize
from edgeq.quantize.op_latency import op_latency
from edgeq.tflite.model import Model
from tests import tiny
from tests.quantize.minmax import minmax_table

SAMPLES = [tiny.tiny_inputs(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny.tiny_model()


@pytest.fixture(scope="module")
def int8(model: Model) -> Model:
    return quantize(model, minmax_table(model, SAMPLES)).model


def test_each_op_with_an_int8_form_is_timed_in_both(model, int8):
    timed = {}
    for index, operator in enumerate(model.operators):
        found = op_latency(model, int8, index)
        if found is not None:
            timed[model.op_name(operator)] = found
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"} <= set(timed)
    assert all(0 < t.float_ms < 1e3 and 0 < t.int8_ms < 1e3 for t in timed.values())


def test_an_op_that_is_float_in_both_has_no_int8_time(model):
    mixed = quantize(model, minmax_table(model, SAMPLES), float_ops=frozenset({0})).model
    assert op_latency(model, mixed, 0) is None


def test_an_extent_known_at_run_time_only_cannot_be_timed():
    model = tiny.one_op_model("TANH", (1, 4))
    int8 = quantize(model, minmax_table(model, [{"x": np.ones((1, 4), np.float32)}])).model
    model.tensors[0].shape = np.array([0, 4], np.int32)
    assert op_latency(model, int8, 0) is None


def test_a_position_that_is_none_is_not_timed(model, int8):
    assert op_latency(model, int8, 99) is None
