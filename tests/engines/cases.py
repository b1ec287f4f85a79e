"""The op table: one tiny float model per op and variant, and how far INT8 may be from it.

Weights lie on the int8 grid, and whoever runs a case puts its inputs there too, so that what is
left is the op's own rounding: at most one output step, unless the row says why it is more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.tflite.schema import schema
from tests.engines.op_case import FUSED, Build, Graph, OpCase

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
IMAGE = (1, 6, 6, 4)


def _case(
    op: str, build: Build, *inputs: tuple[int, ...], variant: str = "", **fields: Any
) -> OpCase:
    return OpCase(f"{op}{variant and '-'}{variant}", op, inputs or (IMAGE,), build, **fields)


def _simple(
    op: str,
    shape: Sequence[int] = IMAGE,
    *inputs: tuple[int, ...],
    variant: str = "",
    constants: Callable[[Graph], list[int]] = lambda g: [],
    moves: bool = False,
    bound: float = 1.0,
    low: float = -3.0,
    high: float = 3.0,
    **fields: Any,
) -> OpCase:
    """Return a case of one op: activations, then constants; movers come behind a computing op."""

    def build(g: Graph) -> None:
        data = [g.computed(i) if moves else t for i, t in enumerate(g.inputs)]
        g.result(g.apply(op, [*data, *constants(g)], shape, **fields))

    return _case(op, build, *inputs, variant=variant, bound=bound, low=low, high=high)


def _convolution(
    *,
    variant: str = "",
    fused: int = FUSED.NONE,
    padding: int = SAME,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> OpCase:
    extent = {(SAME, 1): 6, (SAME, 2): 3, (VALID, 1): 4}[padding, stride]
    if padding == VALID:
        extent = 6 - 2 * dilation

    def build(g: Graph) -> None:
        inputs = [g.inputs[0], g.weights((8, 3, 3, 4 // groups), 0), g.bias(8)]
        g.result(
            g.apply("CONV_2D", inputs, (1, extent, extent, 8), options="Conv2DOptions",
                    padding=padding, strideH=stride, strideW=stride, dilationHFactor=dilation,
                    dilationWFactor=dilation, fusedActivationFunction=fused)
        )  # fmt: skip

    return _case("CONV_2D", build, variant=variant)


def _depthwise(
    *,
    variant: str = "",
    multiplier: int = 1,
    fused: int = FUSED.NONE,
    stride: int = 1,
) -> OpCase:
    def build(g: Graph) -> None:
        channels = 4 * multiplier
        inputs = [g.inputs[0], g.weights((1, 3, 3, channels), 3), g.bias(channels)]
        g.result(
            g.apply("DEPTHWISE_CONV_2D", inputs, (1, 6 // stride, 6 // stride, channels),
                    options="DepthwiseConv2DOptions", padding=SAME, strideH=stride,
                    strideW=stride, depthMultiplier=multiplier, dilationHFactor=1,
                    dilationWFactor=1, fusedActivationFunction=fused)
        )  # fmt: skip

    return _case("DEPTHWISE_CONV_2D", build, variant=variant)


def _fully_connected(
    *, variant: str = "", fused: int = FUSED.NONE, with_bias: bool = True, keep: bool = False
) -> OpCase:
    shape, result = ((1, 3, 8), (1, 3, 5)) if keep else ((2, 8), (2, 5))

    def build(g: Graph) -> None:
        inputs = [g.inputs[0], g.weights((5, 8), 0), *([g.bias(5)] if with_bias else [])]
        g.result(
            g.apply("FULLY_CONNECTED", inputs, result, options="FullyConnectedOptions",
                    version=5 if keep else 1 if with_bias else 6, keepNumDims=keep,
                    fusedActivationFunction=fused)
        )  # fmt: skip

    return _case("FULLY_CONNECTED", build, shape, variant=variant)


def _transpose_conv(*, variant: str = "", with_bias: bool = True, stride: int = 2) -> OpCase:
    def build(g: Graph) -> None:
        extent = 6 * stride
        inputs = [g.integers([1, extent, extent, 5]), g.weights((5, 3, 3, 4), 0), g.inputs[0]]
        inputs += [g.bias(5)] if with_bias else []
        g.result(
            g.apply("TRANSPOSE_CONV", inputs, (1, extent, extent, 5),
                    options="TransposeConvOptions", version=3 if with_bias else 1, padding=SAME,
                    strideH=stride, strideW=stride)
        )  # fmt: skip

    return _case("TRANSPOSE_CONV", build, variant=variant)


def _pool(op: str, *, variant: str = "", fused: int = FUSED.NONE, padding: int = VALID) -> OpCase:
    extent = 3 if padding == VALID else 6
    stride = 2 if padding == VALID else 1
    return _simple(op, (1, extent, extent, 4), variant=variant, options="Pool2DOptions",
                   padding=padding, strideH=stride, strideW=stride, filterHeight=2,
                   filterWidth=2, fusedActivationFunction=fused)  # fmt: skip


def _binary(op: str, options: str | None, *, variant: str = "", fused: int | None = None,
            second: tuple[int, ...] = IMAGE, **fields: Any) -> OpCase:  # fmt: skip
    extra = {} if fused is None else {"fusedActivationFunction": fused}
    return _simple(op, IMAGE, IMAGE, second, variant=variant, options=options, **extra, **fields)


def _with_constant(op: str, options: str | None, values: Any, *, variant: str,
                   **fields: Any) -> OpCase:  # fmt: skip
    return _simple(op, variant=variant, options=options, constants=lambda g: [g.floats(values)],
                   **fields)  # fmt: skip


def _clip(op: str, **fields: Any) -> OpCase:
    """What it clips is an output too, so that int8 may not saturate there."""

    def build(g: Graph) -> None:
        data = g.computed(0)
        g.result(data, g.apply(op, [data], IMAGE))

    return _case(op, build, **fields)


def _reduce(op: str, axes: Sequence[int], shape: Sequence[int], *, variant: str = "",
            **fields: Any) -> OpCase:  # fmt: skip
    return _simple(op, shape, variant=variant, constants=lambda g: [g.integers(axes)],
                   options="ReducerOptions", keepDims=len(shape) == 4, **fields)  # fmt: skip


def _moves(op: str, shape: Sequence[int], *inputs: tuple[int, ...], variant: str = "",
           constants: Callable[[Graph], list[int]] = lambda g: [], options: str | None = None,
           bound: float = 1.0, **fields: Any) -> OpCase:  # fmt: skip
    return _simple(op, shape, *inputs, variant=variant, constants=constants, moves=True,
                   options=options, bound=bound, **fields)  # fmt: skip


def _resize(op: str, options: str, *, variant: str, **fields: Any) -> OpCase:
    return _moves(op, (1, 12, 12, 4), variant=variant, options=options,
                  constants=lambda g: [g.integers([12, 12])], **fields)  # fmt: skip


def _split(g: Graph) -> None:
    data = g.computed(0)
    g.result(*g.apply_many("SPLIT", [g.integers(3), data], [(1, 6, 6, 2)] * 2,
                           options="SplitOptions", numSplits=2))  # fmt: skip


def _split_v(g: Graph) -> None:
    inputs = [g.computed(0), g.integers([1, 3]), g.integers(3)]
    g.result(*g.apply_many("SPLIT_V", inputs, [(1, 6, 6, 1), (1, 6, 6, 3)],
                           options="SplitVOptions", numSplits=2))  # fmt: skip


def _unpack(g: Graph) -> None:
    g.result(*g.apply_many("UNPACK", [g.computed(0)], [(1, 6, 4)] * 6, options="UnpackOptions",
                           num=6, axis=2))  # fmt: skip


def _padv2(pad: float) -> Callable[[Graph], list[int]]:
    return lambda g: [g.integers([[0, 0], [1, 1], [2, 0], [0, 0]]), g.floats(pad)]


def _far_pad_before_max_pool(pad: float) -> Build:
    def build(g: Graph) -> None:
        inputs = [g.computed(0), g.integers([[0, 0], [1, 1], [1, 1], [0, 0]]), g.floats(pad)]
        padded = g.apply("PADV2", inputs, (1, 8, 8, 4), options="PadV2Options")
        g.result(g.apply("MAX_POOL_2D", [padded], (1, 4, 4, 4), options="Pool2DOptions",
                         padding=VALID, strideH=2, strideW=2, filterHeight=2,
                         filterWidth=2))  # fmt: skip

    return build


def _select(op: str) -> Build:
    def build(g: Graph) -> None:
        condition = g.model.add_tensor("condition", IMAGE, "BOOL",
                                       values=np.arange(144).reshape(IMAGE) % 3 == 0)  # fmt: skip
        inputs = [condition, g.computed(0), g.computed(1)]
        g.result(g.apply(op, inputs, IMAGE, options=f"{_OPTIONS_OF_SELECT[op]}Options"))

    return build


_OPTIONS_OF_SELECT = {"SELECT": "Select", "SELECT_V2": "SelectV2"}


def _arg(op: str, options: str) -> OpCase:
    def build(g: Graph) -> None:
        output = (f"t{len(g.model.tensors)}", (1, 6, 6))
        g.result(g.op(op, [g.computed(0), g.integers(3)], output, type_name="INT32",
                      options=options, outputType=schema.TensorType.INT32))  # fmt: skip

    return _case(op, build)


def _gather(g: Graph) -> list[int]:
    return [g.integers([3, 0, 3])]


def _gather_from_a_table(g: Graph) -> None:
    table = g.floats(np.linspace(-2, 5, 40).reshape(10, 4))
    rows = g.apply("GATHER", [table, g.integers([7, 2, 9])], (3, 4), options="GatherOptions")
    g.result(g.apply("ADD", [rows, g.inputs[0]], (3, 4), options="AddOptions"))


_FUSED_ARITHMETIC = tuple(
    _binary(op, options, variant=name.lower(), fused=getattr(FUSED, name))
    for op, options in (("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions"))
    for name in ("RELU", "RELU6", "RELU_N1_TO_1")
)

CASES: tuple[OpCase, ...] = (
    _convolution(),
    _convolution(variant="relu", fused=FUSED.RELU),
    _convolution(variant="relu6", fused=FUSED.RELU6),
    _convolution(variant="relu-n1-to-1", fused=FUSED.RELU_N1_TO_1),
    _convolution(variant="valid", padding=VALID),
    _convolution(variant="stride", stride=2),
    _convolution(variant="dilated", padding=VALID, dilation=2),
    _convolution(variant="grouped", groups=2),
    _depthwise(),
    _depthwise(variant="relu6-stride", fused=FUSED.RELU6, stride=2),
    _depthwise(variant="multiplier", multiplier=3),
    _fully_connected(),
    _fully_connected(variant="relu", fused=FUSED.RELU),
    _fully_connected(variant="without-bias", with_bias=False),
    _fully_connected(variant="keep-dims", keep=True),
    _transpose_conv(),
    _transpose_conv(variant="without-bias", with_bias=False),
    _transpose_conv(variant="stride-1", stride=1),
    _simple("BATCH_MATMUL", (2, 3, 5), (2, 3, 4), (2, 4, 5), options="BatchMatMulOptions"),
    _simple("BATCH_MATMUL", (2, 3, 5), (2, 3, 4), variant="constant", options="BatchMatMulOptions",
            constants=lambda g: [g.weights((1, 4, 5), 0)]),
    _binary("ADD", "AddOptions"),
    _binary("ADD", "AddOptions", variant="broadcast", second=(1, 1, 1, 4)),
    _with_constant("ADD", "AddOptions", [0.5, -1.0, 2.0, 0.1], variant="constant"),
    _with_constant("ADD", "AddOptions", 0.7, variant="scalar"),
    _binary("SUB", "SubOptions"),
    _binary("MUL", "MulOptions"),
    _with_constant("MUL", "MulOptions", 0.25, variant="scalar"),
    _with_constant("MUL", "MulOptions", [-1.5, 2.0, 0.0, 1.0], variant="constant"),
    *_FUSED_ARITHMETIC,
    _binary("SQUARED_DIFFERENCE", None, bound=2.0),
    _binary("MINIMUM", "MaximumMinimumOptions"),
    _binary("MAXIMUM", "MaximumMinimumOptions"),
    _with_constant("MAXIMUM", "MaximumMinimumOptions", 0.3, variant="scalar"),
    _with_constant("MINIMUM", "MaximumMinimumOptions", 1e30, variant="far-scalar"),
    _reduce("MEAN", [1, 2], (1, 1, 1, 4)),
    _reduce("MEAN", [1, 2], (1, 4), variant="drop-dims"),
    _reduce("MEAN", [3], (1, 6, 6), variant="channels"),
    _reduce("SUM", [1, 2], (1, 1, 1, 4)),
    _reduce("SUM", [3], (1, 6, 6), variant="channels"),
    _reduce("REDUCE_MAX", [1, 2], (1, 1, 1, 4)),
    _reduce("REDUCE_MIN", [3], (1, 6, 6)),
    _simple("ABS"),
    _simple("RSQRT", low=0.2, high=4.0),
    _clip("RELU"),
    _clip("RELU6", high=9.0),
    _clip("RELU_N1_TO_1"),
    _simple("LEAKY_RELU", options="LeakyReluOptions", alpha=0.2),
    _simple("PRELU", constants=lambda g: [g.floats([[[0.1, -0.3, 0.7, 1.0]]])], bound=1.5),
    _simple("HARD_SWISH", bound=2.0),
    _simple("ELU"),
    _simple("GELU", options="GeluOptions"),
    _simple("EXP"),
    _simple("LOGISTIC"),
    _simple("TANH", bound=1.5),
    _simple("SOFTMAX", (2, 10), (2, 10), options="SoftmaxOptions", beta=1.0),
    _simple("LOG_SOFTMAX", (2, 10), (2, 10), options="LogSoftmaxOptions"),
    _simple("L2_NORMALIZATION", (2, 10), (2, 10), options="L2NormOptions"),
    _pool("AVERAGE_POOL_2D"),
    _pool("AVERAGE_POOL_2D", variant="same-relu", padding=SAME, fused=FUSED.RELU),
    _pool("MAX_POOL_2D"),
    _pool("MAX_POOL_2D", variant="same-relu6", padding=SAME, fused=FUSED.RELU6),
    _resize("RESIZE_BILINEAR", "ResizeBilinearOptions", variant="half-pixel",
            halfPixelCenters=True, bound=2.0),
    _resize("RESIZE_BILINEAR", "ResizeBilinearOptions", variant="aligned", alignCorners=True,
            bound=2.0),
    _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", variant="plain"),
    _moves("CONCATENATION", (1, 6, 6, 6), IMAGE, (1, 6, 6, 2), options="ConcatenationOptions",
           axis=3),
    _moves("CONCATENATION", (1, 6, 6, 5), variant="constant", options="ConcatenationOptions",
           axis=3, constants=lambda g: [g.floats(np.linspace(-4, 1, 36).reshape(1, 6, 6, 1))]),
    _moves("PACK", (2, *IMAGE), IMAGE, IMAGE, options="PackOptions", valuesCount=2, axis=0),
    _case("UNPACK", _unpack),
    _case("SPLIT", _split),
    _case("SPLIT_V", _split_v),
    _moves("PAD", (1, 8, 8, 4), options="PadOptions",
           constants=lambda g: [g.integers([[0, 0], [1, 1], [2, 0], [0, 0]])]),
    _moves("PADV2", (1, 8, 8, 4), options="PadV2Options", constants=_padv2(1.5)),
    _case("PADV2", _far_pad_before_max_pool(float(np.finfo(np.float32).min)),
          variant="far-before-max-pool"),
    _case("PADV2", _far_pad_before_max_pool(-np.inf), variant="infinite-before-max-pool"),
    _moves("MIRROR_PAD", (1, 8, 8, 4), options="MirrorPadOptions", mode=0,
           constants=lambda g: [g.integers([[0, 0], [1, 1], [2, 0], [0, 0]])]),
    _moves("RESHAPE", (4, 36), options="ReshapeOptions",
           constants=lambda g: [g.integers([4, 36])], newShape=np.array([4, 36], np.int32)),
    _moves("SQUEEZE", (6, 6, 4), options="SqueezeOptions", squeezeDims=np.array([0], np.int32)),
    _moves("EXPAND_DIMS", (1, 1, 6, 6, 4), constants=lambda g: [g.integers(0)]),
    _moves("TRANSPOSE", (1, 4, 6, 6), constants=lambda g: [g.integers([0, 3, 1, 2])]),
    _moves("SLICE", (1, 3, 4, 4), constants=lambda g: [g.integers([0, 1, 2, 0]),
                                                       g.integers([1, 3, 4, 4])]),
    _moves("STRIDED_SLICE", (1, 3, 3, 4), options="StridedSliceOptions",
           constants=lambda g: [g.integers([0, 0, 0, 0]), g.integers([1, 6, 6, 4]),
                                g.integers([1, 2, 2, 1])]),
    _moves("GATHER", (1, 6, 6, 3), options="GatherOptions", axis=3, constants=_gather),
    _case("GATHER", _gather_from_a_table, (3, 4), variant="from-a-table", bound=1.5),
    _moves("GATHER_ND", (2, 4), options="GatherNdOptions",
           constants=lambda g: [g.integers([[0, 1, 2], [0, 5, 0]])]),
    _moves("DEPTH_TO_SPACE", (1, 12, 12, 1), options="DepthToSpaceOptions", blockSize=2),
    _moves("SPACE_TO_DEPTH", (1, 3, 3, 16), options="SpaceToDepthOptions", blockSize=2),
    _moves("SPACE_TO_BATCH_ND", (4, 3, 3, 4),
           constants=lambda g: [g.integers([2, 2]), g.integers([[0, 0], [0, 0]])]),
    _moves("BATCH_TO_SPACE_ND", (1, 6, 6, 4), (4, 3, 3, 4),
           constants=lambda g: [g.integers([2, 2]), g.integers([[0, 0], [0, 0]])]),
    _moves("TILE", (1, 6, 12, 4), constants=lambda g: [g.integers([1, 1, 2, 1])]),
    _moves("BROADCAST_TO", (3, 6, 6, 4), version=2,
           constants=lambda g: [g.integers([3, 6, 6, 4])]),
    _moves("REVERSE_V2", IMAGE, constants=lambda g: [g.integers([1])]),
    _case("SELECT", _select("SELECT"), IMAGE, IMAGE),
    _case("SELECT_V2", _select("SELECT_V2"), IMAGE, IMAGE),
    _arg("ARG_MAX", "ArgMaxOptions"),
    _arg("ARG_MIN", "ArgMinOptions"),
)  # fmt: skip
