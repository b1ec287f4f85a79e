"""Lowered ops held to this box's CPU engine, each on random inputs; one that differs stays there.

The formulas are those of LiteRT 2.3.0 on x86 and, by XNNPACK's source, of ARM. Another version or
another CPU may round otherwise: a crossing more is better than an answer that depends on the part.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgeq.engines.cuda.lowering.assemble import assemble
from edgeq.engines.cuda.lowering.draft import Array
from edgeq.engines.cuda.lowering.graph import Graph, Tensor
from edgeq.engines.cuda.lowering.table import LoweredOp, Lowering
from edgeq.engines.cuda.program.nodes import (
    ChannelLookup,
    Extremum,
    Lookup,
    MatrixProduct,
    Move,
    NearestResize,
    Product,
    Reshape,
    Sum,
)
from edgeq.engines.cuda.program.reference import evaluate
from edgeq.tflite.model import Model
from edgeq.tflite.part import some_ops
from edgeq.tflite.runtime import Runner

# moved only, or held to the CPU while they were lowered
SURE = (ChannelLookup, Extremum, Lookup, MatrixProduct, Move, NearestResize, Product, Reshape, Sum)


def confirm(model: Model, graph: Graph, lowering: Lowering) -> Lowering:
    """Return the lowering without the ops that this CPU computes otherwise."""
    ops = tuple(_confirmed(model, graph, lowering, own) for own in lowering.ops)
    return dataclasses.replace(lowering, ops=ops)


def _confirmed(model: Model, graph: Graph, lowering: Lowering, own: LoweredOp) -> LoweredOp:
    if all(isinstance(node, SURE) for node in own.nodes):
        return own
    differing = _differing(model, graph, lowering, own)
    if not differing:
        return own
    reason = f"{own.op.name} is computed otherwise by this CPU, in {differing:.2%} of its values"
    return LoweredOp(own.op, (), reason)


def _differing(model: Model, graph: Graph, lowering: Lowering, own: LoweredOp) -> float:
    """Return the share of the op's values that its nodes and the CPU engine disagree on."""
    fed = list(dict.fromkeys(t for t in own.op.inputs if t >= 0))
    fed = [t for t in fed if graph.tensors[t].constant is None]
    (result,) = own.op.outputs
    tensors = enumerate(graph.tensors)
    known = {t: tensor.constant for t, tensor in tensors if tensor.constant is not None}
    part = some_ops(model, [own.op.position], fed, [result], constants=known,
                    shapes={t: graph.tensors[t].shape for t in (*fed, result)})  # fmt: skip
    values = {t: _random(graph.tensors[t], seed) for seed, t in enumerate(fed)}
    names = {graph.tensors[t].name: array for t, array in values.items()}
    (expected,) = Runner(part.to_bytes()).run(names).values()
    program = assemble(lowering, [own], fed, [result])
    given = dict(zip(program.inputs, values.values(), strict=True))
    found = evaluate(program, given)[program.outputs[0]]
    return float(np.count_nonzero(found != expected) / expected.size)


def _random(tensor: Tensor, seed: int) -> Array:
    random = np.random.default_rng(seed)
    if tensor.type == "FLOAT32":
        return random.normal(size=tensor.shape).astype(np.float32)
    levels = random.integers(0, 256, tensor.shape).astype(np.uint8)
    return levels if tensor.type == "UINT8" else levels.view(np.int8)
