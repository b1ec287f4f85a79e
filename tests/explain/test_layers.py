"""Where the error of an INT8 model enters."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import InvalidRequestError
from edgeq.explain.layers import explain_layers
from edgeq.quantize.convert import quantize
from edgeq.quantize.refine import correct_biases
from edgeq.quantize.sensitivity import op_noise
from tests import tiny
from tests.biases import with_moved_biases
from tests.build_samples import drawn
from tests.explain.ill import dense, explained, layer, scaled
from tests.quantize.joined import Net
from tests.quantize.minmax import minmax_table
from tests.quantize.sensitive import chain, dead_channel_samples

TINY_SAMPLES = drawn(12, image=(1, 8, 8, 3))


def measured(model, samples, threads=1):
    inputs = [sample.inputs for sample in samples]
    table = minmax_table(model, inputs)
    return explain_layers(model, quantize(model, table).model, table, inputs[-4:], threads)


def test_every_op_that_writes_int8_is_a_layer_in_execution_order():
    layers = measured(tiny.tiny_model(), TINY_SAMPLES)
    assert [(each.op, each.tensor) for each in layers] == [
        ("QUANTIZE", "image"),
        ("CONV_2D", "conv"),
        ("DEPTHWISE_CONV_2D", "dw"),
        ("AVERAGE_POOL_2D", "pool"),
        ("RESHAPE", "flat"),
        ("FULLY_CONNECTED", "logits"),
        ("SOFTMAX", "scores"),
    ]
    assert [each.index for each in layers] == list(range(7))  # int8 saturates where the RELU does


def test_the_shares_of_the_outputs_noise_add_up():
    layers = measured(tiny.tiny_model(), TINY_SAMPLES)
    assert sum(each.share for each in layers) == pytest.approx(1.0, abs=1e-4)
    assert all(each.share >= 0 for each in layers)


def test_what_only_moves_data_adds_nothing():
    layers = {each.tensor: each for each in measured(tiny.tiny_model(), TINY_SAMPLES)}
    assert layers["flat"].entered == 0.0
    assert layers["flat"].entered_db == 0.0
    assert layers["flat"].share == 0.0
    assert layers["flat"].sqnr_db == pytest.approx(layers["pool"].sqnr_db, abs=0.01)


def test_what_reads_the_exact_input_has_no_noise_to_lose_against():
    first = measured(tiny.tiny_model(), TINY_SAMPLES)[0]
    assert first.entered_db is None
    assert first.entered == pytest.approx(10 ** (-first.sqnr_db / 10), rel=0.01)


def test_what_a_relu_takes_away_is_no_error_before_it():
    layers = {each.tensor: each for each in measured(tiny.tiny_model(), TINY_SAMPLES)}
    assert layers["conv"].sqnr_db > 30
    assert layers["conv"].saturated_low == 0.0


def test_the_op_that_is_spoiled_gets_the_blame_and_not_those_behind_it():
    layers = {e.tensor: e for e in measured(chain(huge_weight_at=2), dead_channel_samples())}
    assert layers["y2"].share > 0.9
    assert layers["y2"].weight_spread > 100
    assert layers["y3"].sqnr_db < 20
    assert abs(layers["y3"].entered_db) < 1


def test_noise_that_the_next_op_magnifies_is_followed_to_where_it_starts():
    """The lost channels hardly count beside the wide one, until an op reads them alone."""
    g = tiny.GraphBuilder({"x": (1, 16)})
    first, second = np.eye(16, dtype=np.float32), np.eye(16, dtype=np.float32)
    first[0] *= 200.0
    second[0] = 0.0
    zero = g.constant("b", np.zeros(16, np.float32))
    x = 0
    for name, weights in (("wide", first), ("narrow", second)):
        x = g.op("FULLY_CONNECTED", [x, g.constant(f"{name}/w", weights), zero], (name, (1, 16)),
                 options="FullyConnectedOptions")  # fmt: skip
    layers = {e.tensor: e for e in measured(g.finish(x), drawn(16, x=(1, 16)))}
    assert layers["wide"].sqnr_db > 30
    assert layers["wide"].share > 0.7
    assert layers["wide"].entered < layers["narrow"].entered + 0.001
    assert layers["narrow"].sqnr_db < layers["wide"].sqnr_db - 10


def test_the_ranking_finds_the_op_that_costs_most_alone():
    model, samples = chain(huge_weight_at=2), dead_channel_samples()
    table = minmax_table(model, [sample.inputs for sample in samples])
    alone = op_noise(model, table, samples)[0]
    worst = max(measured(model, samples), key=lambda each: each.share)
    assert worst.tensor == f"y{alone.index}"


def test_a_moved_bias_is_a_shift_and_bias_correction_removes_it():
    model = chain()
    inputs = [sample.inputs for sample in dead_channel_samples()]
    table = minmax_table(model, inputs)
    int8 = with_moved_biases(quantize(model, table).model, 0.3)
    moved = {e.tensor: e for e in explain_layers(model, int8, table, inputs, 1)}
    assert moved["y0"].shift > 0.9
    corrected = correct_biases(model, int8, inputs)
    assert corrected is not None
    after = {e.tensor: e for e in explain_layers(model, corrected, table, inputs, 1)}
    assert after["y0"].shift < 0.1
    assert after["y0"].sqnr_db > moved["y0"].sqnr_db + 10


def test_both_rails_are_told_apart():
    model, samples = dense(np.eye(4)), drawn(8, x=(1, 4))
    up = [{"x": np.abs(given["x"]) * 9} for given in scaled(samples, 1.0)]
    high = layer(explained(model, samples, inputs=up), "x")
    low = layer(explained(model, samples, inputs=[{"x": -g["x"]} for g in up]), "x")
    assert high.saturated_low == low.saturated_high == 0.0
    assert high.saturated_high > 0.5
    assert low.saturated_low > 0.5
    assert high.saturated > 0.99


def test_ops_that_stay_float_add_nothing_and_pass_on_what_they_get():
    model = tiny.tiny_model()
    inputs = [sample.inputs for sample in TINY_SAMPLES]
    table = minmax_table(model, inputs)
    mixed = quantize(model, table, float_ops=frozenset([2])).model  # the depthwise convolution
    layers = {e.tensor: e for e in explain_layers(model, mixed, table, inputs, 1) if e.share > 0}
    assert "dw" in layers  # only for its QUANTIZE
    assert layers["dw"].op == "QUANTIZE"
    assert layers["conv"].share > 0
    assert layers["dw"].entered_db < 6


def test_two_outputs_and_a_shared_scale_are_taken():
    net = Net()
    boxes, logits = net.branches(boxes=3.0)
    scores = net.op("SOFTMAX", [logits], ("scores", (1, 36, 4)), options="SoftmaxOptions", beta=1.0)
    layers = measured(net.finish(boxes, scores), drawn(6, image=(1, 6, 6, 3)))
    assert {"boxes", "scores", "stem"} <= {each.tensor for each in layers}
    assert sum(each.share for each in layers) == pytest.approx(1.0, abs=1e-4)


def test_a_softmax_at_the_end_does_not_hide_what_comes_before():
    layers = {each.tensor: each for each in measured(tiny.tiny_model(), TINY_SAMPLES)}
    assert layers["scores"].share == 0.0
    assert layers["logits"].share > 0.0


def test_the_same_inputs_give_the_same_figures():
    assert measured(tiny.tiny_model(), TINY_SAMPLES) == measured(tiny.tiny_model(), TINY_SAMPLES)


def test_an_input_that_the_model_does_not_take_is_refused():
    model = tiny.tiny_model()
    table = minmax_table(model, [tiny.tiny_inputs()])
    int8 = quantize(model, table).model
    with pytest.raises(InvalidRequestError):
        explain_layers(model, int8, table, [{}], 1)
