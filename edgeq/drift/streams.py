"""A model's inputs and outputs -> which streams it has, and one frame's counts of each.

Inputs and outputs are counted in the codes of their INT8 grid. Of an image there is more: mean,
deviation and mean gradient; of class scores the class, the confidence, the margin and the entropy.
Measured at 27,648 float values: 51 us to quantize and count them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.stream import CODES, Stream
from edgeq.tflite.model import Model, indices, text
from edgeq.tflite.names import unique

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Grid = tuple[float, float]  # the values of code 0 and 255
Grids = Mapping[str, Grid]
Scalars = Mapping[str, float]

BRIGHTNESS, CONTRAST, SHARPNESS = "brightness", "contrast", "sharpness"
CONFIDENCE, MARGIN, ENTROPY, CLASS = "confidence", "margin", "entropy", "class"

LEAST_SIDE = 8  # of an image, in pixels
MOST_ASPECT = 4.0  # a longer strip is a spectrogram or a series of features
IMAGE_CHANNELS = (1, 3, 4)
MOST_VALUES = 1 << 18  # of a larger tensor every n-th row or value is counted: 0.5 ms
GRADIENT_VALUES = 1 << 13  # that tell how sharp an image is
SUM_TOLERANCE = 0.1  # of scores that are shares: INT8 rounds each of them
LEAST_MARGIN = 1e-3  # on either side of a scalar that was the same in every frame


@dataclass(frozen=True)
class Counted:
    """A tensor in codes; a part of its rows or values where it has very many."""

    codes: Array  # uint8, of the tensor's rank where it is an image
    counts: Array  # int32 [256]


class StreamCounter:
    """Counts one frame at a time; holds nothing of it."""

    def __init__(self, streams: Iterable[Stream]) -> None:
        streams = tuple(streams)
        self._inputs = [s for s in streams if s.kind == "input"]
        self._outputs = [s for s in streams if s.kind == "output"]
        self._scalars = {s.name: s for s in streams if s.kind == "scalar"}
        self._choices = {s.tensor: s.name for s in streams if s.kind == "classes"}

    def count(self, inputs: Arrays, outputs: Arrays) -> dict[str, Array]:
        """Return the counts of every stream of these inputs and outputs, int32 [256]."""
        counts, scalars = self.measure(inputs, outputs)
        for name, value in scalars.items():
            if name in self._scalars:
                counts[name] = count_scalar(value, self._scalars[name])
        return counts

    def measure(self, inputs: Arrays, outputs: Arrays) -> tuple[dict[str, Array], Scalars]:
        """Return the counts of tensors and classes, and the value of every scalar there is."""
        counts: dict[str, Array] = {}
        scalars: dict[str, float] = {}
        for stream in self._inputs:
            values = inputs.get(stream.tensor)
            if values is not None and values.size:
                counted = count_values(values, stream)
                counts[stream.name] = counted.counts
                if is_image(values.shape):
                    scalars |= _named_scalars(stream.tensor, image_scalars(counted, stream))
        for stream in self._outputs:
            values = outputs.get(stream.tensor)
            if values is not None and values.size:
                counts[stream.name] = count_values(values, stream).counts
        for tensor, name in self._choices.items():
            if tensor in outputs and outputs[tensor].size:
                counts[name], own = _choice(outputs[tensor])
                scalars |= _named_scalars(tensor, own)
        return counts, scalars


def _named_scalars(tensor: str, scalars: Scalars) -> dict[str, float]:
    return {f"{tensor}/{word}": v for word, v in scalars.items() if math.isfinite(v)}


def _choice(values: Array) -> tuple[Array, Scalars]:
    """Return the counts of the classes that an output chooses, and how sure it is of them."""
    if is_index(values):
        return count_classes(values), {}
    scores = as_scores(values)
    return count_classes(scores.argmax(axis=-1)), score_scalars(scores)


# ---- tensors


def count_values(values: Array, stream: Stream) -> Counted:
    """Return the codes of a tensor and how often each occurs; NaN is left out."""
    values = _thinned(values)
    if values.dtype.kind == "f":
        codes = _coded(values, stream)
    elif values.dtype == np.int8:
        codes = values.view(np.uint8) ^ np.uint8(0x80)  # the grid starts at -128
    elif values.dtype == np.uint8:
        codes = values
    else:
        codes = stream.codes(values).astype(np.uint8)
    return Counted(codes, count_codes(codes))


def count_codes(codes: Array) -> Array:
    """Return how often each code occurs, int32 [256]."""
    counts: Array = np.bincount(codes.reshape(-1), minlength=CODES).astype(np.int32)
    return counts


def _coded(values: Array, stream: Stream) -> Array:
    """Quantize as the engine does: to the nearest code, halves up, saturating."""
    span = stream.hi - stream.lo
    if not span > 0:
        return stream.codes(values).astype(np.uint8)
    if not math.isfinite(float(values.sum())):  # overflows too: then all is looked at
        values = values[~np.isnan(values)]
    step = (CODES - 1) / span
    scaled = values * np.float32(step)
    scaled += np.float32(0.5 - stream.lo * step)
    np.clip(scaled, 0.0, CODES - 1, out=scaled)
    codes: Array = scaled.astype(np.uint8)
    return codes


def _thinned(values: Array) -> Array:
    """Every n-th row of an image, or value of anything else, where there are too many."""
    stride = -(-values.size // MOST_VALUES)
    if stride == 1:
        return np.ascontiguousarray(values)
    if is_image(values.shape) and stride <= values.shape[1] // LEAST_SIDE:
        return np.ascontiguousarray(values[:, ::stride])
    while math.gcd(stride, values.size) > 1:  # meets every channel and column
        stride += 1
    return np.ascontiguousarray(values.reshape(-1)[::stride])


# ---- scalars


def is_image(shape: Sequence[int]) -> bool:
    """Say whether a shape is that of images: [N, H, W, C], not a strip."""
    if len(shape) != 4 or shape[3] not in IMAGE_CHANNELS:
        return False
    short, long = sorted(shape[1:3])
    return short >= LEAST_SIDE and long <= MOST_ASPECT * short


def image_scalars(counted: Counted, stream: Stream) -> dict[str, float]:
    """Return mean, deviation and mean gradient along the rows, all within the grid."""
    step = (stream.hi - stream.lo) / (CODES - 1)
    total = float(counted.counts.sum())
    if not total:
        return {}
    shares, places = counted.counts / total, np.arange(CODES)
    mean = float(shares @ places)
    deviation = math.sqrt(max(0.0, float(shares @ np.square(places - mean))))
    scalars = {BRIGHTNESS: stream.lo + step * mean, CONTRAST: step * deviation}
    if counted.codes.ndim == 4:
        scalars[SHARPNESS] = step * _gradient(counted.codes)
    return scalars


def _gradient(codes: Array) -> float:
    rows = codes[:, :: -(-codes.size // GRADIENT_VALUES)].astype(np.int16)
    return float(np.abs(np.diff(rows, axis=2)).mean())


def is_index(values: Array) -> bool:
    """Say whether an output holds indices of classes, as an ARG_MAX gives."""
    return values.dtype.kind in "iu" and values.dtype.itemsize > 1


def as_scores(values: Array) -> Array:
    """Return the scores of each choice as shares that add up to 1, float64 [choices, classes]."""
    scores: Array = values.reshape(-1, values.shape[-1]).astype(np.float64)
    if values.dtype == np.int8:
        scores += 128.0
    scores = np.maximum(np.nan_to_num(scores), 0.0)
    totals: Array = scores.sum(axis=-1, keepdims=True)
    shares: Array = scores / np.where(totals > 0.0, totals, 1.0)
    return shares


def are_scores(values: Array) -> bool:
    """Say whether an output is one choice among classes: shares that add up to about 1."""
    if values.ndim != 2 or values.shape[-1] < 2:
        return False
    if values.dtype.kind == "f":
        sums = values.sum(axis=-1)
        return bool((values >= 0.0).all() and (np.abs(sums - 1.0) <= SUM_TOLERANCE).all())
    if values.dtype not in (np.int8, np.uint8):
        return False
    sums = (values.astype(np.int64) - (-128 if values.dtype == np.int8 else 0)).sum(axis=-1)
    return bool((np.abs(sums / CODES - 1.0) <= SUM_TOLERANCE).all())  # a SOFTMAX's scale is 1/256


def score_scalars(scores: Array) -> dict[str, float]:
    """Return confidence, margin to the next class, and entropy in nats; means over the choices."""
    best = np.partition(scores, -2, axis=-1)
    logs = np.log(np.where(scores > 0.0, scores, 1.0))
    return {
        CONFIDENCE: float(best[:, -1].mean()),
        MARGIN: float((best[:, -1] - best[:, -2]).mean()),
        ENTROPY: float(-(scores * logs).sum(axis=-1).mean()),
    }


def count_scalar(value: float, stream: Stream) -> Array:
    """Return the counts of one value; `Stream.codes` would take 8 us for it."""
    counts = np.zeros(CODES, np.int32)
    place = round((value - stream.lo) * ((CODES - 1) / (stream.hi - stream.lo)))
    counts[min(max(place, 0), CODES - 1)] = 1
    return counts


def count_classes(classes: Array) -> Array:
    """Return the counts of class indices, modulo 256."""
    return count_codes((classes & (CODES - 1)).astype(np.uint8))


# ---- which streams there are


def grids_of(int8: Model, ranges: Grids) -> tuple[dict[str, Grid], dict[str, Grid]]:
    """Return the INT8 grid of every input and of every output, by name.

    A tensor at the border of a float island has none; its calibrated range is the grid then. One
    without either (an index, a string) is left out.
    """
    given = {n: _grid_behind(int8, t) or ranges.get(n) for n, t in named(int8, int8.inputs)}
    made = {n: _grid_before(int8, t) or ranges.get(n) for n, t in named(int8, int8.outputs)}
    return ({n: g for n, g in given.items() if g}, {n: g for n, g in made.items() if g})


def named(int8: Model, tensors: Sequence[int]) -> list[tuple[str, int]]:
    """Return names and tensors of an interface, as the runtime names them."""
    names = unique([text(int8.tensors[tensor].name) for tensor in tensors])
    return list(zip(names, tensors, strict=True))


def grid_of(int8: Model, tensor: int) -> Grid | None:
    """Return the values of the first and last code of an 8-bit tensor, None for any other."""
    first = {"INT8": -128, "UINT8": 0}.get(int8.type_name(tensor))
    parameters = int8.quantization(tensor)
    if first is None or parameters is None or parameters.is_per_channel:
        return None
    scale, zero_point = float(parameters.scale[0]), int(parameters.zero_point[0])
    return scale * (first - zero_point), scale * (first + CODES - 1 - zero_point)


def _grid_behind(int8: Model, tensor: int) -> Grid | None:
    readers = (int8.operators[i] for i in int8.consumers().get(tensor, []))
    quantized = [o for o in readers if int8.op_name(o) == "QUANTIZE"]
    found = [grid_of(int8, indices(operator.outputs)[0]) for operator in quantized]
    return grid_of(int8, tensor) or next((grid for grid in found if grid), None)


def _grid_before(int8: Model, tensor: int) -> Grid | None:
    writer = int8.producers().get(tensor)
    if writer is None or int8.op_name(int8.operators[writer]) != "DEQUANTIZE":
        return grid_of(int8, tensor)
    return grid_of(int8, indices(int8.operators[writer].inputs)[0])


def scalar_stream(name: str, values: Sequence[float]) -> Stream:
    """Return the stream of a scalar: the range it had in the reference, and its span around it."""
    low, high = min(values), max(values)
    around = (high - low) or max(abs(high), LEAST_MARGIN)
    return Stream(name, "scalar", name.rpartition("/")[0], low - around, high + around)


def class_stream(tensor: str) -> Stream:
    """Return the stream of the classes that an output chooses."""
    return Stream(f"{tensor}/{CLASS}", "classes", tensor, 0.0, CODES - 1.0)
