"""The table of ops that are lowered, and a graph -> the nodes of each op, or why it has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeq.engines.cuda.lowering import (
    batches,
    borders,
    elementwise,
    lookups,
    moves,
    products,
    reductions,
    resizes,
)
from edgeq.engines.cuda.lowering.draft import Array, Draft, Refusal, require
from edgeq.engines.cuda.lowering.graph import Graph, Op
from edgeq.engines.cuda.program.nodes import Node, Value
from edgeq.tflite.model import Model

Lower = Callable[[Draft, Op], None]


@dataclass(frozen=True, eq=False)
class LoweredOp:
    """An op with its nodes, or with the reason that it has none."""

    op: Op
    nodes: tuple[Node, ...]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Lowering:
    """Every op of a graph, and the values of all nodes: a tensor's has the tensor's index."""

    ops: tuple[LoweredOp, ...]
    values: Mapping[int, Value]
    constants: Mapping[int, Array]


def lower(model: Model, graph: Graph) -> Lowering:
    """Lower every op of `graph`, which was read from `model`."""
    draft = Draft(model, graph)
    ops = tuple(_lowered(draft, op) for op in graph.ops)
    return Lowering(ops, draft.values, draft.constants)


def _lowered(draft: Draft, op: Op) -> LoweredOp:
    try:
        require(op.name in LOWERINGS, "has no kernel")
        LOWERINGS[op.name](draft, op)
    except Refusal as refusal:
        draft.take_nodes()
        return LoweredOp(op, (), f"{op.name} {refusal}")
    return LoweredOp(op, draft.take_nodes())


def _table_only(draft: Draft, op: Op) -> None:
    """Lower an op of two values where one of them is a scalar, or both are the same."""
    require(lookups.is_unary(draft, op), "of two values has no kernel")
    lookups.lookup(draft, op)


UNARY = (
    "ABS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU",
    "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SQRT", "SQUARE", "TANH",
)  # fmt: skip

LOWERINGS: dict[str, Lower] = {
    "CONV_2D": products.convolution,
    "DEPTHWISE_CONV_2D": products.depthwise,
    "FULLY_CONNECTED": products.dense,
    "TRANSPOSE_CONV": products.transposed_convolution,
    "BATCH_MATMUL": products.matrix_product,
    "ADD": elementwise.addition,
    "SUB": elementwise.addition,
    "MUL": elementwise.product,
    "MAXIMUM": elementwise.extremum,
    "MINIMUM": elementwise.extremum,
    "SQUARED_DIFFERENCE": _table_only,
    "PRELU": lookups.channel_lookup,
    **dict.fromkeys(UNARY, lookups.lookup),
    "AVERAGE_POOL_2D": reductions.average_pool,
    "MAX_POOL_2D": reductions.maximum_pool,
    "MEAN": reductions.mean,
    "SUM": reductions.mean,
    "SOFTMAX": reductions.softmax,
    "RESIZE_BILINEAR": resizes.bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resizes.nearest,
    "QUANTIZE": borders.quantize,
    "DEQUANTIZE": borders.dequantize,
    "RESHAPE": moves.reshape,
    "SQUEEZE": moves.reshape,
    "EXPAND_DIMS": moves.reshape,
    "CONCATENATION": moves.concatenation,
    "PACK": moves.pack,
    "UNPACK": moves.unpack,
    "SPLIT": moves.split,
    "SPLIT_V": moves.split,
    "PAD": moves.pad,
    "PADV2": moves.pad,
    "MIRROR_PAD": moves.pad,
    "TRANSPOSE": moves.transpose,
    "SLICE": moves.slice_,
    "STRIDED_SLICE": moves.strided_slice,
    "REVERSE_V2": moves.reverse,
    "TILE": moves.tile,
    "BROADCAST_TO": moves.tile,
    "GATHER": moves.gather,
    "SPACE_TO_DEPTH": moves.space_to_depth,
    "DEPTH_TO_SPACE": moves.depth_to_space,
    "SPACE_TO_BATCH_ND": batches.space_to_batch,
    "BATCH_TO_SPACE_ND": batches.batch_to_space,
}
