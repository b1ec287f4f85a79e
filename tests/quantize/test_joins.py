"""Where one scale would ruin a tensor it is not shared, and where sharing costs little it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.quantize.convert import Quantized, quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests.engines.op_case import Graph
from tests.quantize import joined
from tests.quantize.minmax import minmax_table, table_of
from tests.tiny import Array

SHAPE = (1, 4)
GOOD_DB = 25.0
KERNELS = pytest.mark.parametrize("delegate", [True, False], ids=["xnnpack", "reference"])


def _quantized(model: Model) -> Quantized:
    quantized = quantize(model, minmax_table(model, joined.inputs(8)))
    check_structure(quantized.model)
    return quantized


def _names(model: Model) -> list[str]:
    return [model.op_name(operator) for operator in model.operators]


def _float_names(quantized: Quantized) -> list[str]:
    return [op.name for op in quantized.float_ops]


def _scores(outputs: dict[str, Array]) -> Array:
    return outputs["y"][:, 4:]


def _boxes(outputs: dict[str, Array]) -> Array:
    return outputs["y"][:, :4]


# ---- whatever is joined


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 14))
def test_any_net_of_joins_loads_and_answers_on_both_kernel_sets(seed: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    model = joined.drawn_net(draw, length)
    if not model.outputs:
        return
    sizes = 10.0 ** draw.uniform(-1, 1, 2)
    samples = [
        {
            n: (draw.normal(size=(1, 8)) * s).astype(np.float32)
            for n, s in zip("ab", sizes, strict=True)
        }
        for _ in range(8)
    ]
    quantized = quantize(model, minmax_table(model, samples))
    check_structure(quantized.model)
    for delegate in (True, False):
        outputs = Runner(quantized.model.to_bytes(), delegate=delegate).run(samples[0])
        assert all(np.isfinite(values).all() for values in outputs.values())


# ---- joined in float


@KERNELS
def test_scores_beside_boxes_keep_their_levels(delegate: bool) -> None:
    """With the union they are left with 2 levels and 4 dB."""
    model = joined.detector()
    int8 = _quantized(model).model
    assert joined.signal_to_noise_db(model, int8, _scores, delegate=delegate) > GOOD_DB
    assert joined.signal_to_noise_db(model, int8, _boxes, delegate=delegate) > GOOD_DB


def test_the_tail_behind_the_join_is_float_and_each_branch_is_int8_up_to_it() -> None:
    quantized = _quantized(joined.detector())
    assert _float_names(quantized) == ["CONCATENATION", "TRANSPOSE"]
    assert _names(quantized.model)[-6:] == [
        "RESHAPE", "LOGISTIC", "DEQUANTIZE", "DEQUANTIZE", "CONCATENATION", "TRANSPOSE",
    ]  # fmt: skip


def test_the_reason_says_what_the_shared_scale_would_have_left() -> None:
    joining, moving = _quantized(joined.detector()).float_ops
    assert "one INT8 scale for all would leave 'scores' " in joining.reason
    assert joining.reason.startswith("its inputs' ranges differ ")
    assert moving.reason.startswith("one INT8 scale for all that it moves would leave 'scores' ")


@KERNELS
def test_what_is_split_again_behind_the_join_takes_scales_of_its_own(delegate: bool) -> None:
    model = joined.joined_then_split()
    quantized = _quantized(model)
    assert _float_names(quantized) == ["CONCATENATION", "SPLIT_V"]
    assert quantized.int8_ops == len(model.operators) - 2
    snr = joined.signal_to_noise_db(
        model, quantized.model, lambda outputs: outputs["scores"], delegate=delegate
    )
    assert snr > GOOD_DB


def test_a_packed_pair_is_judged_like_a_concatenation() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    parts = [g.op("TANH", [t], (f"m{i}", SHAPE)) for i, t in enumerate(g.inputs)]
    wide = g.op("LEAKY_RELU", [parts[1]], ("wide", SHAPE), options="LeakyReluOptions", alpha=0.5)
    packed = g.op("PACK", [parts[0], wide], ("y", (2, *SHAPE)), options="PackOptions",
                  valuesCount=2, axis=0)  # fmt: skip
    model = g.finish(packed)
    ranges = {"a": (-1, 1), "b": (-1, 1), "m0": (-1, 1), "m1": (-1, 1)}
    for width, float_ops in ((3.0, []), (300.0, ["PACK"])):
        span = (-width, width)
        quantized = quantize(model, table_of({**ranges, "wide": span, "y": span}))
        assert _float_names(quantized) == float_ops


def test_a_wide_constant_does_not_widen_a_narrow_tensor() -> None:
    g = Graph({"x": SHAPE})
    narrow = g.op("LEAKY_RELU", g.inputs, ("m", SHAPE), options="LeakyReluOptions", alpha=0.5)
    parts = [narrow, g.floats(np.full(SHAPE, -200.0))]
    model = g.finish(
        g.op("CONCATENATION", parts, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    quantized = quantize(model, table_of({"x": (0, 1), "m": (0, 1), "y": (-200, 1)}))
    assert _float_names(quantized) == ["CONCATENATION"]


def test_a_narrow_constant_beside_wide_data_keeps_its_values() -> None:
    g = Graph({"x": SHAPE})
    wide = g.op("LEAKY_RELU", g.inputs, ("m", SHAPE), options="LeakyReluOptions", alpha=0.5)
    parts = [wide, g.floats(np.full(SHAPE, 0.5))]
    model = g.finish(
        g.op("CONCATENATION", parts, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    (op,) = quantize(model, table_of({"x": (0, 90), "m": (0, 90), "y": (0, 90)})).float_ops
    assert "would leave 'constant2' 2 of 256 levels" in op.reason


def test_an_input_of_unlike_parts_is_split_in_float() -> None:
    g = Graph({"x": (1, 8)})
    parts = g.apply_many("SPLIT", [g.integers(1), g.inputs[0]], [SHAPE] * 2,
                         options="SplitOptions", numSplits=2)  # fmt: skip
    model = g.finish(*[g.op("TANH", [part], (f"y{i}", SHAPE)) for i, part in enumerate(parts)])
    names = [model.names()[part] for part in parts]
    ranges = {"x": (-500, 500), names[0]: (-1, 1), names[1]: (-500, 500), "y0": (-1, 1),
              "y1": (-1, 1)}  # fmt: skip
    quantized = quantize(model, table_of(ranges))
    assert _names(quantized.model) == [
        "SPLIT", "QUANTIZE", "TANH", "QUANTIZE", "TANH", "DEQUANTIZE", "DEQUANTIZE",
    ]  # fmt: skip


# ---- requantized where it is joined


@KERNELS
def test_a_skip_connection_keeps_its_own_scale_for_its_other_reader(delegate: bool) -> None:
    """With the union the other reader is left with 5 dB."""
    model = joined.skip_connection()
    quantized = _quantized(model)
    assert quantized.float_ops == ()
    assert _names(quantized.model).count("QUANTIZE") == 2
    for name in ("fine", "last"):
        snr = joined.signal_to_noise_db(
            model, quantized.model, lambda outputs, name=name: outputs[name], delegate=delegate
        )
        assert snr > GOOD_DB, name


def test_a_tensor_joined_twice_by_one_scale_is_requantized_once() -> None:
    g = Graph({"x": SHAPE, "wide": SHAPE})
    narrow = g.op("TANH", g.inputs[:1], ("narrow", SHAPE))
    wide = g.op("LEAKY_RELU", g.inputs[1:], ("w", SHAPE), options="LeakyReluOptions", alpha=0.5)
    twice = g.op("CONCATENATION", [narrow, wide, narrow], ("j", (1, 12)),
                 options="ConcatenationOptions", axis=1)  # fmt: skip
    model = g.finish(g.op("LOGISTIC", [twice], ("y", (1, 12))), g.op("ABS", [narrow], ("a", SHAPE)))
    span = (-300.0, 300.0)
    ranges = {"x": (-3, 3), "wide": span, "narrow": (-1, 1), "w": span, "j": span, "y": (0, 1),
              "a": (0, 1)}  # fmt: skip
    int8 = quantize(model, table_of(ranges)).model
    assert _names(int8).count("QUANTIZE") == 3
    assert "narrow_int8_2" in int8.names()


def test_a_pool_behind_which_tensors_are_joined_does_not_widen_what_it_reads() -> None:
    g = Graph({"x": (1, 6, 6, 4)})
    narrow = g.op("TANH", g.inputs, ("narrow", (1, 6, 6, 4)))
    pooled = g.apply("MAX_POOL_2D", [narrow], (1, 3, 3, 4), options="Pool2DOptions", strideH=2,
                     strideW=2, filterHeight=2, filterWidth=2)  # fmt: skip
    wide = g.apply("CONV_2D", [narrow, g.weights((4, 2, 2, 4), 0), g.bias(4)], (1, 3, 3, 4),
                   options="Conv2DOptions", strideH=2, strideW=2, dilationHFactor=1,
                   dilationWFactor=1, padding=1)  # fmt: skip
    both = g.apply("CONCATENATION", [pooled, wide], (1, 3, 3, 8), options="ConcatenationOptions",
                   axis=3)  # fmt: skip
    model = g.finish(g.op("LOGISTIC", [both], ("y", (1, 3, 3, 8))))
    names = model.names()
    span = (-90.0, 90.0)
    ranges = {"x": (-3, 3), "narrow": (-1, 1), names[pooled]: (-1, 1), names[wide]: span,
              names[both]: span, "y": (0, 1)}  # fmt: skip
    int8 = quantize(model, table_of(ranges)).model
    own = int8.quantization(int8.names().index("narrow_int8"))
    assert own is not None
    assert own.scale[0] == 1 / 128  # what TANH demands


def test_a_maximum_beside_a_wide_tensor_leaves_the_narrow_one_its_scale() -> None:
    g = Graph({"x": SHAPE, "wide": SHAPE})
    narrow = g.op("TANH", g.inputs[:1], ("narrow", SHAPE))
    greatest = g.op("MAXIMUM", [narrow, g.inputs[1]], ("m", SHAPE), options="MaximumMinimumOptions")
    model = g.finish(greatest, g.op("ABS", [narrow], ("a", SHAPE)))
    span = (-300.0, 300.0)
    ranges = {"x": (-3, 3), "wide": span, "narrow": (-1, 1), "m": span, "a": (0, 1)}
    quantized = quantize(model, table_of(ranges))
    assert quantized.float_ops == ()
    own = quantized.model.quantization(quantized.model.names().index("narrow_int8"))
    assert own is not None
    assert own.scale[0] == 1 / 128


# ---- the union where nothing else helps, or nothing is lost


@pytest.mark.parametrize("boxes", [0.2, 0.5])
def test_similar_ranges_share_one_scale(boxes: float) -> None:
    quantized = _quantized(joined.detector(boxes))
    assert quantized.float_ops == ()


def test_what_one_layer_reads_as_a_whole_shares_one_scale() -> None:
    quantized = _quantized(joined.inception())
    assert quantized.float_ops == ()
    assert _names(quantized.model).count("QUANTIZE") == 1


def test_with_that_layer_in_float_the_join_is_float_too() -> None:
    model = joined.inception()
    table = minmax_table(model, joined.inputs(8))
    last = len(model.operators) - 1
    quantized = quantize(model, table, float_ops=frozenset({last}))
    assert _float_names(quantized) == ["CONCATENATION", "CONV_2D"]
    snr = joined.signal_to_noise_db(model, quantized.model, lambda outputs: outputs["last"])
    assert snr > GOOD_DB


def test_a_dead_branch_is_no_reason_to_leave_int8() -> None:
    g = Graph({"a": SHAPE, "b": SHAPE})
    options = {"options": "LeakyReluOptions", "alpha": 0.0}
    parts = [g.op("LEAKY_RELU", [t], (f"m{i}", SHAPE), **options) for i, t in enumerate(g.inputs)]
    model = g.finish(
        g.op("CONCATENATION", parts, ("y", (1, 8)), options="ConcatenationOptions", axis=1)
    )
    ranges = {"a": (-9, 9), "b": (-9, 0), "m0": (0, 9), "m1": (0, 0), "y": (0, 9)}
    assert quantize(model, table_of(ranges)).float_ops == ()
