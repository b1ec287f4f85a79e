"""A shape -> a .tflite model that answers with what it was given, as uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.tflite.model import Model, Quantization
from edgeq.tflite.schema import schema

SHAPE = (1, 96, 96, 3)
SCALE = 1 / 255
SCHEMA_VERSION = 3


def identity_model(shape: Sequence[int] = SHAPE, note: str = "") -> bytes:
    """Return a MAX_POOL_2D over single pixels of [N, H, W, C]: a copy, 12 us for 27,648 values.

    Pooling computes on integers, so that edgeq takes the model for a quantized one and serves it
    as it is; a RESHAPE would be a float model to it, which waits for samples and a build.
    """
    proto = schema.ModelT()
    proto.version, proto.description = SCHEMA_VERSION, note.encode()
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = b"main", [], []
    proto.subgraphs, proto.operatorCodes, proto.buffers = [graph], [], [schema.BufferT()]
    model = Model(proto)
    scale = Quantization(np.array([SCALE], np.float32), np.array([0], np.int64))
    tensors = [model.add_tensor(name, shape, "UINT8", quantization=scale) for name in ("x", "y")]
    pool = model.make_operator("MAX_POOL_2D", 1, tensors[:1], tensors[1:])
    pool.builtinOptionsType = schema.BuiltinOptions.Pool2DOptions
    pool.builtinOptions = schema.Pool2DOptionsT()
    pool.builtinOptions.padding = schema.Padding.VALID
    pool.builtinOptions.strideH = pool.builtinOptions.strideW = 1
    pool.builtinOptions.filterHeight = pool.builtinOptions.filterWidth = 1
    graph.operators.append(pool)
    graph.inputs, graph.outputs = (np.array([index], np.int32) for index in tensors)
    return model.to_bytes()


def with_note(content: bytes, note: str) -> bytes:
    """Return the same model as another file: only its description differs."""
    model = Model.from_bytes(content)
    model.proto.description = note.encode()
    return model.to_bytes()
