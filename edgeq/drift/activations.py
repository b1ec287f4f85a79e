"""An INT8 model and a share of the frames -> counts of a few of its activations.

The frames run once more, through a copy of the INT8 model that shows these tensors: on the CPU,
also where a GPU serves, whose values are the same. Which tensors is measured, on VWW, ResNet-8 and
KWS under light, contrast, blur and noise, by how far 20 frames are beyond 99.9 % of what chance
gives (geometric means of the best tensor's ratio, rails / PSI). Of 8 tensors:

    chosen                       VWW          ResNet-8     KWS
    the first 8                  1.24 / 1.70  1.63 / 0.96  2.06 / 1.18
    the last 8                   0.55 / 2.26  1.02 / 1.31  1.51 / 1.14
    spread evenly                0.75 / 2.80  1.37 / 1.54  2.02 / 2.25
    the largest share of error   1.24 / 1.70  1.59 / 1.56  2.06 / 2.25
    the first 4, and 4 spread    1.13 / 2.80  1.63 / 1.60  2.02 / 2.25
    all 11 to 29                 1.54 / 2.80  1.63 / 1.62  2.06 / 2.25

The first activations saturate first; the last ones change their shape when it matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.drift.stream import CODES, FrameCounts, Stream
from edgeq.drift.streams import count_codes, grid_of, named
from edgeq.tflite.model import Model, indices
from edgeq.tflite.names import unique
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

FIRST, SPREAD = 4, 4
SIGN = CODES // 2

# What these write has the values of what they read.
COPIES = frozenset(
    {"QUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PACK", "UNPACK", "SLICE",
     "STRIDED_SLICE", "SPLIT", "SPLIT_V", "PAD", "PADV2", "MIRROR_PAD", "SPACE_TO_DEPTH",
     "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "GATHER", "TILE", "REVERSE_V2"}
)  # fmt: skip

MOST_VALUES = 1 << 22  # of all tensors shown together, 4 MB


def choose_activations(int8: Model) -> list[int]:
    """Return up to 8 INT8 activations, in execution order: the first four, and four spread."""
    shown = set(int8.outputs) | _before_outputs(int8)
    candidates = [
        tensor
        for operator in int8.operators
        for tensor in indices(operator.outputs)
        if int8.op_name(operator) not in COPIES
        and tensor not in shown
        and int8.type_name(tensor) == "INT8"
        and grid_of(int8, tensor) is not None
    ]
    rest = candidates[FIRST:]
    places = np.linspace(0, len(rest) - 1, min(SPREAD, len(rest))).round().astype(int)
    chosen = [*candidates[:FIRST], *(rest[place] for place in places)]
    return _small_enough(int8, chosen)


def _before_outputs(int8: Model) -> set[int]:
    """Return the INT8 tensors that outputs are dequantized from: these are counted anyway."""
    outputs = set(int8.outputs)
    return {
        tensor
        for operator in int8.operators
        if int8.op_name(operator) == "DEQUANTIZE" and outputs & set(indices(operator.outputs))
        for tensor in indices(operator.inputs)
    }


def _small_enough(int8: Model, tensors: Sequence[int]) -> list[int]:
    kept, room = [], MOST_VALUES
    for tensor in tensors:
        size = int(np.prod(np.abs(int8.shape(tensor)), dtype=np.int64))
        if size <= room:
            kept.append(tensor)
            room -= size
    return kept


def activation_streams(int8: Model, tensors: Sequence[int]) -> tuple[Stream, ...]:
    """Return the streams of INT8 activations, with names that people can read."""
    names, grids = int8.names(), {t: grid_of(int8, t) for t in tensors}
    found = [(names[t], grid) for t, grid in grids.items() if grid]
    short = unique([_short(name) for name, _ in found])
    return tuple(
        Stream(name, "activation", tensor, *grid)
        for name, (tensor, grid) in zip(short, found, strict=True)
    )


def _short(name: str) -> str:
    """Of 'a/Relu;a/BatchNorm;a/Conv2D1_int8', which a converter made of three ops, 'a/Relu'."""
    return name.split(";")[0].removesuffix("_int8")


def tensors_of(int8: Model, streams: Sequence[Stream]) -> dict[str, int]:
    """Return the tensor of every activation stream, by the stream's name."""
    places = {name: place for place, name in enumerate(int8.names())}
    found = ((s.name, places.get(s.tensor)) for s in streams if s.kind == "activation")
    return {name: place for name, place in found if place is not None}


@dataclass(frozen=True)
class Shown:
    """What one frame gave."""

    outputs: dict[str, Array]
    counts: FrameCounts


class Tapped:
    """An INT8 model that shows some of its activations, and its outputs where they are wanted.

    Args:
        int8: the model.
        tensors: stream name -> activation.
        threads: of one run.
        with_outputs: show the outputs too.

    Raises:
        EngineError: the runtime refuses it.
    """

    def __init__(
        self, int8: Model, tensors: Mapping[str, int], *, threads: int, with_outputs: bool = False
    ) -> None:
        own = dict(named(int8, int8.outputs)) if with_outputs else {}
        outputs = {name: t for name, t in own.items() if t not in set(int8.inputs)}
        self._outputs, self._tensors = tuple(outputs), tuple(tensors)
        tapped, _ = tap(int8, [*outputs.values(), *tensors.values()])
        self._runner = Runner(tapped.to_bytes(), threads=threads)

    def run(self, inputs: Arrays, *, counting: bool = True) -> Shown:
        """Run one frame, and count its activations; errors as `Runner.run`."""
        values = self._runner.run_in_place(inputs)
        split = len(self._outputs)
        outputs = {n: v.copy() for n, v in zip(self._outputs, values[:split], strict=True)}
        shown = zip(self._tensors, values[split:], strict=True) if counting else ()
        return Shown(outputs, {name: _count(value) for name, value in shown})

    def close(self) -> None:
        """Free the interpreter."""
        self._runner.close()


def _count(values: Array) -> Array:
    """Count the codes of an int8 tensor: -128 is code 0."""
    counts = count_codes(values.view(np.uint8))
    return np.concatenate((counts[SIGN:], counts[:SIGN]))  # np.roll takes 10 us for it
