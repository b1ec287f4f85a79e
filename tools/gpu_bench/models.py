"""Files -> INT8 models, in any batch, and inputs for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tests.quantize.minmax import minmax_table

Array = np.ndarray
Inputs = dict[str, Array]


def model_files(places: Sequence[Path]) -> Iterator[Path]:
    """Yield the files named, and the .tflite files of the folders named."""
    for place in places:
        yield from sorted(place.rglob("*.tflite")) if place.is_dir() else [place]


def int8_content(content: bytes) -> bytes:
    """Return a model that is INT8 already as it is, a float one quantized by noise.

    Its answers are worth nothing then, but its speed and whether its bits agree are the same.

    Raises:
        EdgeqError: it is no model, or one that cannot be quantized.
    """
    model = Model.from_bytes(content)
    if any(model.type_name(i) == "INT8" for i in range(len(model.tensors))):
        return content
    return quantize(model, minmax_table(model, noise(content, 2))).model.to_bytes()


def noise(content: bytes, count: int, seed: int = 0) -> list[Inputs]:
    """Return random inputs of a model, -1 to 1 or over all of an integer's range."""
    random = np.random.default_rng(seed)
    specs = Runner(content).inputs
    return [{s.name: _noise(random, s.shape, s.dtype) for s in specs} for _ in range(count)]


def _noise(random: np.random.Generator, shape: Sequence[int], dtype: np.dtype) -> Array:
    extents = [abs(extent) for extent in shape]
    if dtype.kind == "f":
        return random.uniform(-1, 1, extents).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, extents, dtype, endpoint=True)


def batched(content: bytes, count: int) -> bytes:
    """Return the model for so many samples at once: each activation's first extent is the batch.

    A model that reshapes to a fixed batch of 1 is then refused by whoever loads it.
    """
    if count == 1:
        return content
    model = Model.from_bytes(content)
    for index, tensor in enumerate(model.tensors):
        shape = model.shape(index)
        if not model.is_constant(index) and shape[:1] == (1,):
            tensor.shape = np.array([count, *shape[1:]], np.int32)
    return model.to_bytes()
