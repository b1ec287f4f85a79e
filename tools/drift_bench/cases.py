"""A task of the evaluation set -> the counts of each of its frames, as they are and drifted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.build.baseline import Baseline
from edgeq.drift.activations import Tapped, tensors_of
from edgeq.drift.stream import Stream
from edgeq.drift.streams import StreamCounter, grids_of
from edgeq.tflite.model import Model

Array = npt.NDArray[Any]
Counts = Mapping[str, Array]  # stream -> int32 [frames, 256]

TASKS = ("resnet8_cifar10", "vww96", "kws_dscnn")
DIVISORS = {"raw255": 1.0, "01": 255.0, "feat": 1.0}  # of the models' preprocessing


@dataclass(frozen=True)
class Case:
    """One model's frames, counted."""

    name: str
    input: str  # its input's name
    streams: tuple[Stream, ...]
    frames: Counts
    drifted: Mapping[str, Counts]  # kind of drift -> the same frames, drifted
    labels: Array  # int [frames]

    @property
    def size(self) -> int:
        """How many frames there are."""
        return len(self.labels)


def darker(values: Array) -> Array:
    """Half as bright."""
    return values * np.float32(0.5)


def blurred(values: Array) -> Array:
    """Return the mean over 3 x 3 pixels, twice: [frames, height, width, channels]."""
    for axis in (1, 2, 1, 2):
        values = (np.roll(values, 1, axis) + values + np.roll(values, -1, axis)) / np.float32(3)
    return values


def quieter(values: Array) -> Array:
    """A tenth of the power: the first cepstral coefficient, a sum over 40 log bands, falls."""
    values = values.copy()
    values[..., 0, :] -= np.float32(np.log(10.0) * np.sqrt(40.0))
    return values


IMAGE_DRIFTS: Mapping[str, Callable[[Array], Array]] = {"brightness x 0.5": darker, "blur": blurred}
SOUND_DRIFTS: Mapping[str, Callable[[Array], Array]] = {"power x 0.1": quieter}


def load_case(folder: Path, name: str) -> Case:
    """Run the INT8 reference model of a task over all of its frames.

    Args:
        folder: of the evaluation set: tasks.json, data/, reference/.
        name: the task's id.
    """
    (task,) = (t for t in json.loads((folder / "tasks.json").read_bytes()) if t["id"] == name)
    int8 = Model.from_bytes((folder / task["ref_int8"]).read_bytes())
    values, labels = _frames(folder / task["data"])
    drifts = SOUND_DRIFTS if task["pre"] == "feat" else IMAGE_DRIFTS
    quantize = _quantizer(int8, DIVISORS[task["pre"]])
    runner = FrameRunner(int8, quantize(values))
    drifted = {kind: runner.count(quantize(drift(values))) for kind, drift in drifts.items()}
    frames = runner.count(quantize(values))
    return Case(name, runner.input, runner.streams, frames, drifted, labels)


def _frames(folder: Path) -> tuple[Array, Array]:
    values, labels = [], []
    for split in ("eval", "calib"):
        with np.load(folder / f"{split}.npz") as arrays:
            values.append(arrays["x"].astype(np.float32))
            labels.append(arrays["y"].astype(np.int64))
    return np.concatenate(values), np.concatenate(labels)


def _quantizer(int8: Model, divisor: float) -> Callable[[Array], Array]:
    parameters = int8.quantization(int(int8.inputs[0]))
    assert parameters is not None
    scale, zero_point = float(parameters.scale[0]) * divisor, int(parameters.zero_point[0])

    def quantize(values: Array) -> Array:
        return np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8)

    return quantize


class FrameRunner:
    """The streams of a model, laid out over all of its frames, and a counter of frames."""

    def __init__(self, int8: Model, frames: Array) -> None:
        inputs, _ = grids_of(int8, {})
        (self.input,) = inputs
        baseline = Baseline(int8, {}, threads=1)
        for frame in frames:
            baseline.add({self.input: frame[np.newaxis]})
        self.streams = baseline.reference().streams
        baseline.close()
        self._counter = StreamCounter(self.streams)
        tensors = tensors_of(int8, self.streams)
        self._tapped = Tapped(int8, tensors, threads=1, with_outputs=True)

    def count(self, frames: Array) -> Counts:
        """Return the counts of every stream."""
        rows = [self._count({self.input: frame[np.newaxis]}) for frame in frames]
        return {s.name: np.stack([row[s.name] for row in rows]) for s in self.streams}

    def _count(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        shown = self._tapped.run(inputs)
        return {**self._counter.count(inputs, shown.outputs), **shown.counts}
