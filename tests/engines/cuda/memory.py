"""Carries out a Layout node by node on poisoned bytes: a wrong place or lifetime shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.launch import View
from edgeq.engines.cuda.planning.layout import Layout
from edgeq.engines.cuda.program.edges import reads
from edgeq.engines.cuda.program.reference import evaluate

Array = npt.NDArray[Any]
POISON = 0xA5


class Memory:
    """The spaces that a layout's views point into."""

    def __init__(self, layout: Layout, given: Mapping[int, Array]) -> None:
        self.layout = layout
        program = layout.program
        self.spaces = {("arena", 0): np.full(layout.arena_bytes, POISON, np.uint8)}
        for index, value in enumerate(program.inputs):
            self.spaces["input", index] = given[value].copy().reshape(-1).view(np.uint8)
        for index, value in enumerate(program.outputs):
            own = program.values[value]
            size = math.prod(own.shape) * np.dtype(own.datatype).itemsize
            self.spaces["output", index] = np.full(size, POISON, np.uint8)

    def array(self, value: int) -> Array:
        """Return a writable view of a value where it lies."""
        if value in self.layout.program.constants:
            return self.layout.program.constants[value]
        view, datatype = self.layout.views[value], self.layout.program.values[value].datatype
        return _strided(self.spaces[view.pointer.space, view.pointer.index], view, datatype)

    def run(self) -> dict[int, Array]:
        """Carry out every node; return the outputs."""
        program = self.layout.program
        for node in program.nodes:
            own = {v: self.array(v).copy() for v in {*reads(node), node.y}}
            result = evaluate(replace(program, nodes=(node,)), own)[node.y]
            self._spoil_padding(node.y)
            self.array(node.y)[...] = result
        return {value: self.array(value).copy() for value in program.outputs}

    def _spoil_padding(self, value: int) -> None:
        """Do what a kernel may do that writes whole words."""
        view = self.layout.views[value]
        if view.owns_padding and len(view.shape) > 1:
            wide = replace(view, shape=(*view.shape[:-1], view.pitch))
            if math.prod(view.shape[:-1]) > 1:
                space = self.spaces[view.pointer.space, view.pointer.index]
                datatype = self.layout.program.values[value].datatype
                _strided(space, wide, datatype)[..., view.shape[-1] :] = POISON - 128


def _strided(space: npt.NDArray[np.uint8], view: View, datatype: str) -> Array:
    size = view.itemsize
    rows = math.prod(view.shape[:-1])
    last = ((rows - 1) * view.pitch if rows > 1 else 0) + (view.shape[-1] if view.shape else 1)
    assert view.pointer.offset + last * size <= len(space)
    start = space[view.pointer.offset : view.pointer.offset + last * size].view(datatype)
    strides = [stride * size for stride in view.strides]
    return np.lib.stride_tricks.as_strided(start, view.shape, strides)
