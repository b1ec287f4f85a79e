"""What each tensor of a table is like."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.explain.tensors import explain_tensors, histogram_sqnr_db
from edgeq.quantize.affine import activation_parameters, dequantize_values, quantize_values
from edgeq.quantize.convert import quantize
from tests import tiny
from tests.build_samples import drawn
from tests.explain.ill import explained
from tests.quantize.joined import Net
from tests.quantize.minmax import table_of

DRAW = np.random.default_rng(1)
SHAPES = {
    "normal": DRAW.normal(size=100_000),
    "relu": np.maximum(DRAW.normal(size=100_000), 0),
    "laplace": DRAW.laplace(size=100_000),
    "negative": -DRAW.gamma(2.0, size=100_000),
    "lopsided": DRAW.normal(size=100_000) + 2,
}


def measured_db(values: np.ndarray, lo: float, hi: float) -> float:
    parameters = activation_parameters(lo, hi)
    back = dequantize_values(quantize_values(values, parameters), parameters)
    return float(10 * np.log10(np.square(values).sum() / np.square(values - back).sum()))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("method", METHODS)
def test_the_estimate_is_within_half_a_decibel_of_quantizing(name, method):
    values = SHAPES[name].astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    span = METHODS[method](histogram)
    estimated = histogram_sqnr_db(histogram, span.lo, span.hi)
    assert estimated == pytest.approx(measured_db(values, span.lo, span.hi), abs=0.5)


def test_every_tensor_has_every_method_and_mse_is_the_best_of_them():
    explanation = explained(tiny.tiny_model(), drawn(6, image=(1, 8, 8, 3)), method="entropy")
    assert [t.name for t in explanation.tensors][:2] == ["image", "conv"]
    for tensor in explanation.tensors:
        assert set(tensor.methods) == set(METHODS)
        sqnr_db = {name: method.sqnr_db for name, method in tensor.methods.items()}
        assert sqnr_db["mse"] == pytest.approx(max(sqnr_db.values()), abs=0.01)
        if tensor.method in METHODS:
            chosen = tensor.methods[tensor.method]
            assert (chosen.lo, chosen.hi) == (tensor.lo, tensor.hi)


def test_a_method_that_the_guard_overruled_shows_what_it_wanted():
    values = DRAW.normal(size=20_000) * (DRAW.random(20_000) < 0.01)
    histogram = Histogram()
    histogram.add(np.append(values, DRAW.normal(size=500) * 40).astype(np.float32))
    table = table_of({"x": (-1.0, 1.0)})
    model = tiny.one_op_model()
    (x,) = explain_tensors(model, model, table, {"x": histogram})
    wanted = METHODS["entropy-unguarded"](histogram)
    assert METHODS["entropy"](histogram).method == "mse"
    assert (x.methods["entropy-unguarded"].lo, x.methods["entropy-unguarded"].hi) == (
        wanted.lo,
        wanted.hi,
    )
    assert x.methods["entropy"].hi != wanted.hi


def test_a_dead_tensor_and_one_without_values_are_exact():
    zeros, nothing = Histogram(), Histogram()
    zeros.add(np.zeros(5, np.float32))
    table = table_of({"x": (0.0, 0.0), "y": (0.0, 0.0)})
    model = tiny.one_op_model()
    dead, empty = explain_tensors(model, model, table, {"x": zeros, "y": nothing})
    assert (dead.tags, dead.count) == (("dead",), 5)
    assert (empty.tags, empty.count) == ((), 0)
    assert {m.sqnr_db for t in (dead, empty) for m in t.methods.values()} == {200.0}


def joined_net(boxes: float):
    net = Net()
    shape = (1, 36, 8)
    joined = net.joined(list(net.branches(boxes=boxes)), shape)
    flat = np.array([1, 6, 6, 8], np.int32)
    back = net.op("RESHAPE", [joined, net.constant("s", flat, "INT32")], ("back", flat.tolist()),
                  options="ReshapeOptions", newShape=flat)  # fmt: skip
    return net.finish(net.conv(back, 8, 4, "head"))


def test_tensors_that_share_a_scale_name_each_other_and_what_int8_really_holds():
    explanation = explained(joined_net(boxes=3.0), drawn(6, image=(1, 6, 6, 3)))
    known = {tensor.name: tensor for tensor in explanation.tensors}
    narrow, wide, head = known["class"], known["box"], known["head"]
    assert {"box", "boxes", "logits", "joined", "back"} <= set(narrow.shares_with)
    assert "class" not in narrow.shares_with
    assert (narrow.int8_lo, narrow.int8_hi) == (wide.int8_lo, wide.int8_hi)
    assert narrow.int8_hi > 1.5 * narrow.hi
    assert head.shares_with == ()
    assert head.int8_hi == pytest.approx(head.hi, rel=0.02)


def test_a_tensor_that_stays_float_has_no_int8_range():
    model = tiny.tiny_model()
    samples = drawn(4, image=(1, 8, 8, 3))
    explanation = explained(model, samples, changed=lambda int8: model)
    assert {tensor.int8_lo for tensor in explanation.tensors} == {None}
    assert explanation.layers == ()


def test_the_table_s_names_are_those_of_the_model():
    model = tiny.tiny_model()
    table = table_of(dict.fromkeys(model.names(), (-3.0, 3.0)))
    int8 = quantize(model, table).model
    held = {t.name: t.int8_hi for t in explain_tensors(model, int8, table, {})}
    assert held["image"] == pytest.approx(3.0, rel=0.02)
    assert held["scores"] == pytest.approx(255 / 256)
