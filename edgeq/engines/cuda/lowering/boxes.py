"""Moves between boxes of two dense tensors of one rank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeq.engines.cuda.program.nodes import Axis, Move


@dataclass(frozen=True)
class Box:
    """Which part of y is written, and where in x it is read; an empty tuple is the whole."""

    size: tuple[int, ...] = ()  # y's extents
    at: tuple[int, ...] = ()  # where it lies in y
    start: tuple[int, ...] = ()  # where its first element lies in x
    step: tuple[int, ...] = ()


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many elements lie between neighbours of each dimension."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def copy_box(
    x: int,
    y: int,
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    box: Box = Box(),
    *,
    fill: int = 0,
    mirror: Literal["", "reflect", "symmetric"] = "",
) -> Move:
    """Return the Move that writes `box` of y from x."""
    rank = len(y_shape)
    size, at = box.size or y_shape, box.at or (0,) * rank
    start, step = box.start or (0,) * rank, box.step or (1,) * rank
    pitch, y_strides = strides(x_shape), strides(y_shape)
    axes = tuple(Axis(size[d], start[d], step[d], x_shape[d], pitch[d]) for d in range(rank))
    offset = sum(a * s for a, s in zip(at, y_strides, strict=True))
    return Move(x, y, axes, y_strides, offset, fill, mirror)
