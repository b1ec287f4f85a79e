"""A float model with QUANTIZE -> DEQUANTIZE pairs -> the same without, and the ranges they tell.

Quantization-aware training leaves such pairs where it found a scale; between them everything is
float. The scale is worth more than a calibrated one: the weights were trained around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.quantize.ranges import Range
from edgeq.tflite.model import Model, Quantization, indices

LIMITS = {"INT8": (-128, 127), "UINT8": (0, 255)}


@dataclass(frozen=True)
class Pairs:
    """Positions of the ops that no longer do anything, and ranges by the tensor they held for."""

    positions: frozenset[int]
    ranges: Mapping[int, Range]


def bypass_pairs(model: Model) -> Pairs:
    """Let what reads behind each pair read what stands before it, in place.

    Left alone is a pair of which an output of the graph shows a part: it is seen from outside.
    """
    producers, consumers = model.producers(), model.consumers()
    positions, ranges = set[int](), dict[int, Range]()
    for position, operator in enumerate(model.operators):
        if model.op_name(operator) != "QUANTIZE":
            continue
        source, middle = indices(operator.inputs)[0], indices(operator.outputs)[0]
        behind = consumers.get(middle, [])
        span = _span(model, middle)
        if span is None or model.type_name(source) != "FLOAT32" or not _ends(model, middle, behind):
            continue
        for each in behind:
            shown = indices(model.operators[each].outputs)[0]
            _rewire(model, consumers, shown, source)
        positions |= {position, *behind}
        if source in producers or source in model.inputs:
            ranges.setdefault(source, span)
    return Pairs(frozenset(positions), ranges)


def _span(model: Model, tensor: int) -> Range | None:
    """Return what the integers of a tensor with one scale can hold."""
    quantization, limits = model.quantization(tensor), LIMITS.get(model.type_name(tensor))
    if quantization is None or quantization.is_per_channel or limits is None:
        return None
    return _real(quantization, limits[0]), _real(quantization, limits[1])


def _real(quantization: Quantization, level: int) -> float:
    return (level - int(quantization.zero_point[0])) * float(quantization.scale[0])


def _ends(model: Model, middle: int, behind: list[int]) -> bool:
    """True where only DEQUANTIZE reads the integers, and no output of the graph shows anything."""
    operators = [model.operators[p] for p in behind]
    shown = {middle, *(indices(operator.outputs)[0] for operator in operators)}
    only = {model.op_name(operator) for operator in operators} == {"DEQUANTIZE"}
    return only and shown.isdisjoint(model.outputs)


def _rewire(model: Model, consumers: dict[int, list[int]], old: int, new: int) -> None:
    """Let every op that reads `old` read `new`."""
    readers = consumers.pop(old, [])
    for reader in readers:
        operator: Any = model.operators[reader]
        tensors = [new if t == old else t for t in indices(operator.inputs)]
        operator.inputs = np.asarray(tensors, np.int32)
    consumers.setdefault(new, []).extend(readers)
