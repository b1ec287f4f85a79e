"""The worst layers in words: each illness in a model that has it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable
from edgeq.explain.explain import explain
from edgeq.explain.words import WORST, advise, worst_layers
from edgeq.quantize.convert import quantize
from tests import tiny
from tests.biases import with_moved_biases
from tests.build_samples import drawn
from tests.explain.ill import advice, dense, explained, heavy_tailed, layer, scaled
from tests.explain.test_tensors import joined_net
from tests.quantize.sensitive import chain, dead_channel_samples

SAMPLES = drawn(12, x=(1, 16))


def test_values_beyond_all_samples_ask_for_more_of_them():
    explanation = explained(dense(np.eye(16)), SAMPLES, inputs=scaled(SAMPLES[:6], 3.0))
    found = advice(explanation, "x")
    assert found.cause == "saturation"
    assert "beyond all that calibration saw; more samples" in found.text
    share = layer(explanation, "x")
    most = max(share.saturated_low, share.saturated_high)
    assert f"{most:.1%} of its values saturate at the" in found.text


def test_values_that_the_method_clipped_ask_for_another_method():
    samples = heavy_tailed(12, (1, 4000))
    model = tiny.one_op_model("ELU", (1, 4000))
    explanation = explained(model, samples, method="percentile", inputs=scaled(samples, 1.0)[:8])
    found = advice(explanation, "x")
    assert found.cause == "saturation"
    assert "which percentile chose although the samples reach" in found.text
    assert "the method max would hold them" in found.text


def test_moved_means_ask_for_bias_correction():
    found = advice(
        explained(
            chain(), dead_channel_samples(), changed=lambda int8: with_moved_biases(int8, 0.5)
        ),
        "y0",
    )
    assert found.cause == "shift"
    assert found.text.endswith("bias correction would remove it")


def test_a_scale_that_is_shared_names_with_whom():
    found = advice(explained(joined_net(boxes=3.0), drawn(12, image=(1, 6, 6, 3))), "class")
    assert found.cause == "shared"
    assert "it shares its scale with box and 4 more and uses" in found.text


def test_one_wide_channel_asks_for_equalization():
    explanation = explained(chain(wide_channel=200.0), dead_channel_samples())
    found = advice(explanation, "y1")
    assert found.cause == "channels"
    assert "equalization, or keeping it float, would help" in found.text
    assert f"{layer(explanation, 'y1').channel_spread:.0f} times" in found.text


def test_one_huge_weight_is_named():
    found = advice(explained(chain(huge_weight_at=2), dead_channel_samples()), "y2")
    assert found.cause == "weights"
    assert "a channel's largest weight is" in found.text
    assert "of 127 steps" in found.text


def test_a_scale_that_the_kernel_demands_is_no_fault_of_the_samples():
    faint = drawn(12, x=(1, 16))
    explanation = explained(tiny.one_op_model("LOGISTIC", (1, 16)), faint)
    assert advice(explanation, "y").cause == "fixed"
    assert "steps of 0.0039" in advice(explanation, "y").text


def test_one_outlier_in_millions_of_values_under_max_asks_for_the_method_that_is_better():
    model, draw = tiny.one_op_model("ABS", (1, 400)), np.random.default_rng(0)
    seen = {"x": Histogram(), "y": Histogram()}
    for _ in range(20):
        values = draw.normal(size=100_000).astype(np.float32)
        seen["x"].add(values)
        seen["y"].add(np.abs(values))
    seen["x"].add(np.array([30.0], np.float32))
    table = CalibrationTable.from_histograms("", "max", 1, seen)
    inputs = [sample.inputs for sample in drawn(8, x=(1, 400))]
    explanation = explain(model, quantize(model, table).model, table, seen, inputs)
    found = advice(explanation, "x")
    assert found.cause == "method"
    x = explanation.tensors[0]
    assert "heavy_tail" in x.tags
    gain = x.methods["mse"].sqnr_db - x.methods["max"].sqnr_db
    assert f"by mse it would be {gain:.1f} dB better" in found.text


def test_an_op_that_is_merely_rounded_is_told_so():
    assert advice(explained(dense(np.eye(16)), SAMPLES), "x").cause == "rounding"


def test_coarse_weights_are_told_from_a_coarse_output():
    weights = np.random.default_rng(0).uniform(-1, 1, (16, 64))
    weights[:, 0] = 10.0  # 20 times the median, on an input that is always 0
    samples = drawn(12, x=(1, 64))
    for sample in samples:
        sample.inputs["x"][:, 0] = 0.0
    found = advice(explained(dense(weights), samples), "y")
    assert found.cause == "weight_rounding"


def test_what_nothing_explains_is_said_to_be_unclear():
    explanation = explained(dense(np.eye(16)), SAMPLES)
    strange = replace(layer(explanation, "x"), op="ADD", rounding=0.0)
    assert advise(strange, None).cause == "unclear"


def test_a_loss_is_in_decibels_against_the_inputs_or_what_is_left():
    explanation = explained(tiny.tiny_model(), drawn(12, image=(1, 8, 8, 3)))
    first, second = layer(explanation, "image"), layer(explanation, "conv")
    told = [advise(each, None).text for each in (first, second)]
    assert told[0].startswith(f"image (QUANTIZE) leaves {first.sqnr_db:.1f} dB, {first.share:.0%} ")
    assert told[1].startswith(f"conv (CONV_2D) loses {second.entered_db:.1f} dB")
    repairs = advise(replace(second, entered_db=-1.6), None).text
    assert "is 1.6 dB closer than what it reads" in repairs
    assert "loses 0.0 dB" in advise(replace(second, entered_db=-0.04), None).text


def test_a_fused_name_is_cut_to_its_first_part_in_words_only():
    one = replace(layer(explained(dense(np.eye(16)), SAMPLES), "y"), tensor="a/relu;a/bn;a/conv")
    found = advise(one, None)
    assert found.text.startswith("a/relu (")
    assert found.tensor == "a/relu;a/bn;a/conv"


def test_the_five_that_cost_most_come_first_and_what_costs_nothing_not_at_all():
    layers = explained(tiny.tiny_model(), drawn(12, image=(1, 8, 8, 3))).layers
    found = worst_layers(layers, ())
    assert len(found) == WORST
    shares = [next(e.share for e in layers if e.index == each.index) for each in found]
    assert shares == sorted((e.share for e in layers), reverse=True)[:WORST]
    assert worst_layers([replace(e, share=0.0) for e in layers], ()) == ()
