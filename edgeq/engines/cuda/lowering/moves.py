"""Ops that only move int8 values: copies between boxes, and new shapes."""

from __future__ import annotations

import math

from edgeq.engines.cuda.lowering.boxes import Box, copy_box, strides
from edgeq.engines.cuda.lowering.draft import Draft, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.program.nodes import Axis, Move, Reshape
from edgeq.tflite.schema import schema

MOST_GATHERED = 64  # each is a Move of its own


def _ends(draft: Draft, op: Op, data: int = 0) -> tuple[int, int]:
    """Return x and the first output of an op that changes no scale."""
    x, y = draft.int8(op.inputs[data]), draft.int8(op.outputs[0])
    _require_alike(draft, x, y)
    return x, y


def _require_alike(draft: Draft, x: int, y: int) -> None:
    source, result = draft.tensor(x), draft.tensor(y)
    alike = source.scale == result.scale and source.zero_point == result.zero_point
    require(alike, "changes the scale")


def reshape(draft: Draft, op: Op) -> None:
    """Lower RESHAPE, SQUEEZE and EXPAND_DIMS of any type."""
    x, y = draft.value(op.inputs[0]), draft.value(op.outputs[0])
    require(draft.tensor(x).type == draft.tensor(y).type, "changes the type")
    if draft.tensor(x).quantization is not None:
        _require_alike(draft, draft.bytes(x), draft.bytes(y))
    draft.add(Reshape(x, y))


def concatenation(draft: Draft, op: Op) -> None:
    """Lower CONCATENATION: one Move for each part."""
    y = draft.int8(op.outputs[0])
    shape = draft.tensor(y).shape
    require(int(op.options.get("fusedActivationFunction", 0)) == 0, "has a fused activation")
    axis, place = int(op.options["axis"]) % len(shape), 0
    for tensor in op.inputs:
        x = draft.int8(tensor)
        _require_alike(draft, x, y)
        own = draft.tensor(x).shape
        at = tuple(place if d == axis else 0 for d in range(len(shape)))
        if math.prod(own):
            draft.add(copy_box(x, y, own, shape, Box(size=own, at=at)))
        place += own[axis]


def pack(draft: Draft, op: Op) -> None:
    """Lower PACK: parts along a new dimension."""
    y = draft.int8(op.outputs[0])
    shape = draft.tensor(y).shape
    axis = int(op.options["axis"]) % len(shape)
    for place, tensor in enumerate(op.inputs):
        x = draft.int8(tensor)
        _require_alike(draft, x, y)
        own = draft.tensor(x).shape
        widened = (*own[:axis], 1, *own[axis:])
        at = tuple(place if d == axis else 0 for d in range(len(shape)))
        draft.add(copy_box(x, y, widened, shape, Box(size=widened, at=at)))


def unpack(draft: Draft, op: Op) -> None:
    """Lower UNPACK: one Move for each output."""
    x = draft.int8(op.inputs[0])
    shape = draft.tensor(x).shape
    axis = int(op.options["axis"]) % len(shape)
    for place, tensor in enumerate(op.outputs):
        y = draft.int8(tensor)
        _require_alike(draft, x, y)
        own = draft.tensor(y).shape
        start = tuple(place if d == axis else 0 for d in range(len(shape)))
        draft.add(copy_box(x, y, shape, (*own[:axis], 1, *own[axis:]), Box(start=start)))


def split(draft: Draft, op: Op) -> None:
    """Lower SPLIT and SPLIT_V."""
    data, dimension = (1, 0) if op.name == "SPLIT" else (0, 2)
    x = draft.int8(op.inputs[data])
    shape = draft.tensor(x).shape
    axis, place = draft.integers(op.inputs[dimension])[0] % len(shape), 0
    for tensor in op.outputs:
        y = draft.int8(tensor)
        _require_alike(draft, x, y)
        own = draft.tensor(y).shape
        start = tuple(place if d == axis else 0 for d in range(len(shape)))
        draft.add(copy_box(x, y, shape, own, Box(start=start)))
        place += own[axis]


def pad(draft: Draft, op: Op) -> None:
    """Lower PAD, PADV2 and MIRROR_PAD."""
    x, y = _ends(draft, op)
    widths = draft.integers(op.inputs[1])
    fill, mirror = draft.tensor(y).zero_point, ""
    if op.name == "PADV2":
        _require_alike(draft, draft.int8(op.inputs[2]), y)
        fill = draft.integers(op.inputs[2])[0]
    if op.name == "MIRROR_PAD":
        is_symmetric = int(op.options["mode"]) == int(schema.MirrorPadMode.SYMMETRIC)
        mirror = "symmetric" if is_symmetric else "reflect"
    start = tuple(-before for before in widths[::2])
    shapes = draft.tensor(x).shape, draft.tensor(y).shape
    if mirror == "":
        draft.add(copy_box(x, y, *shapes, Box(start=start), fill=fill))
    elif mirror == "reflect":
        draft.add(copy_box(x, y, *shapes, Box(start=start), mirror="reflect"))
    else:
        draft.add(copy_box(x, y, *shapes, Box(start=start), mirror="symmetric"))


def transpose(draft: Draft, op: Op) -> None:
    """Lower TRANSPOSE."""
    x, y = _ends(draft, op)
    shape = draft.tensor(x).shape
    pitch = strides(shape)
    order = [d % len(shape) for d in draft.integers(op.inputs[1])]
    axes = tuple(Axis(shape[d], extent=shape[d], stride=pitch[d]) for d in order)
    draft.add(Move(x, y, axes, strides(draft.tensor(y).shape)))


def slice_(draft: Draft, op: Op) -> None:
    """Lower SLICE."""
    x, y = _ends(draft, op)
    start = tuple(draft.integers(op.inputs[1]))
    draft.add(copy_box(x, y, draft.tensor(x).shape, draft.tensor(y).shape, Box(start=start)))


def strided_slice(draft: Draft, op: Op) -> None:
    """Lower STRIDED_SLICE without ellipsis and new axes."""
    x, y = _ends(draft, op)
    require(not (op.options["ellipsisMask"] or op.options["newAxisMask"]), "adds dimensions")
    shape = draft.tensor(x).shape
    begin, _, step = (draft.integers(t) for t in op.inputs[1:4])
    require(len(begin) == len(shape), "slices some dimensions only")
    start = tuple(_start(op, d, begin[d], step[d], shape[d]) for d in range(len(shape)))
    left, size = iter(draft.tensor(y).shape), []
    for d in range(len(shape)):
        size.append(1 if op.options["shrinkAxisMask"] >> d & 1 else next(left))
    draft.add(copy_box(x, y, shape, tuple(size), Box(start=start, step=tuple(step))))


def _start(op: Op, axis: int, begin: int, step: int, extent: int) -> int:
    if op.options["beginMask"] >> axis & 1:
        return 0 if step > 0 else extent - 1
    begin += extent if begin < 0 else 0
    return min(max(begin, 0), extent - 1)


def reverse(draft: Draft, op: Op) -> None:
    """Lower REVERSE_V2."""
    x, y = _ends(draft, op)
    shape = draft.tensor(x).shape
    turned = {d % len(shape) for d in draft.integers(op.inputs[1])}
    start = tuple(shape[d] - 1 if d in turned else 0 for d in range(len(shape)))
    step = tuple(-1 if d in turned else 1 for d in range(len(shape)))
    draft.add(copy_box(x, y, shape, shape, Box(start=start, step=step)))


def tile(draft: Draft, op: Op) -> None:
    """Lower TILE and BROADCAST_TO: a dimension that is read again has the stride 0."""
    x, y = _ends(draft, op)
    result = draft.tensor(y).shape
    own = (1,) * (len(result) - len(draft.tensor(x).shape)) + draft.tensor(x).shape
    axes, y_strides = [], []
    for size, extent, pitch, step in zip(result, own, strides(own), strides(result), strict=True):
        axes += [
            Axis(size // extent, extent=size // extent),
            Axis(extent, extent=extent, stride=pitch),
        ]
        y_strides += [step * extent, step]
    draft.add(Move(x, y, tuple(axes), tuple(y_strides)))


def gather(draft: Draft, op: Op) -> None:
    """Lower GATHER of a few constant indices."""
    x, y = _ends(draft, op)
    require(int(op.options.get("batchDims", 0)) == 0, "gathers by batch")
    shape, places = draft.tensor(x).shape, draft.integers(op.inputs[1])
    require(len(places) <= MOST_GATHERED, f"gathers {len(places)} slices")
    axis = int(op.options["axis"]) % len(shape)
    flat = (*shape[:axis], len(places), *shape[axis + 1 :])
    size = tuple(1 if d == axis else flat[d] for d in range(len(shape)))
    for at, place in enumerate(places):
        where = (tuple(p if d == axis else 0 for d in range(len(shape))) for p in (at, place))
        box = Box(size, *where)
        draft.add(copy_box(x, y, shape, flat, box))


def space_to_depth(draft: Draft, op: Op) -> None:
    """Lower SPACE_TO_DEPTH."""
    x, y = _ends(draft, op)
    block, (n, h, w, c) = int(op.options["blockSize"]), draft.tensor(x).shape
    axes = (_whole(n, h * w * c), _whole(h // block, block * w * c), _whole(w // block, block * c),
            _whole(block, w * c), _whole(block, c), _whole(c, 1))  # fmt: skip
    draft.add(Move(x, y, axes, strides(tuple(axis.size for axis in axes))))


def depth_to_space(draft: Draft, op: Op) -> None:
    """Lower DEPTH_TO_SPACE."""
    x, y = _ends(draft, op)
    block, (n, h, w, c) = int(op.options["blockSize"]), draft.tensor(x).shape
    depth = c // block**2
    axes = (_whole(n, h * w * c), _whole(h, w * c), _whole(block, block * depth), _whole(w, c),
            _whole(block, depth), _whole(depth, 1))  # fmt: skip
    draft.add(Move(x, y, axes, strides(tuple(axis.size for axis in axes))))


def _whole(size: int, stride: int) -> Axis:
    return Axis(size, extent=size, stride=stride)
