"""What every step of one build reads, and the INT8 form that the steps hand on to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from edgeq.build.options import BuildOptions
from edgeq.calibrate.collect import Collection, Dropped
from edgeq.calibrate.reuse import Calibration
from edgeq.calibrate.table import CalibrationTable
from edgeq.files import sha256_bytes
from edgeq.observe.stages import Stages
from edgeq.quantize.choose import Trial
from edgeq.quantize.convert import FloatOp
from edgeq.samples.split import SampleSource, Split, only
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model

Inputs = dict[str, npt.NDArray[Any]]
Keep = Callable[[str, bytes], None]  # file name, content


@dataclass(frozen=True)
class Work:
    """One build: the model, its samples, what is asked for."""

    content: bytes
    model: Model
    source: SampleSource
    split: Split
    options: BuildOptions
    stages: Stages
    keep: Keep | None = None
    calibration: Calibration | None = None  # made before: the samples are not calibrated on
    new: frozenset[str] = frozenset()  # ids of the samples that show what the inputs are now
    present: bytes | None = None  # the INT8 model that serves now, to be better than
    every_kernel: bool = False  # INT8 where only the GPU is fast in it: as `quantize`

    def select(self) -> Iterator[Sample]:
        """Yield the samples that choices are made by, and nothing else."""
        return only(self.source, self.split.select)


def calibration_table(content: bytes, collection: Collection, method: str) -> CalibrationTable:
    """Return the ranges that `method` chooses from the histograms of the model `content`."""
    return CalibrationTable.from_histograms(
        sha256_bytes(content), method, collection.samples, collection.histograms
    )


@dataclass(frozen=True)
class Made:
    """An INT8 form and how it came about.

    `source` is the float model that it was quantized from by `ranges`: the given one, or an
    equalized copy, which `refined` then says. `calibration` and `histograms` are always the given
    model's. A model that arrived as INT8 has neither.
    """

    int8: Model
    source: Model
    ranges: CalibrationTable | None
    calibration: CalibrationTable | None
    collection: Collection | None
    method: str
    float_ops: tuple[FloatOp, ...] = ()
    candidates: Mapping[str, float] = field(default_factory=dict)  # method -> SQNR in dB
    trials: tuple[Trial, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    refined: tuple[str, ...] = ()
    refinements: Mapping[str, float] = field(default_factory=dict)  # each tried -> SQNR in dB
    refined_db: float = 0.0  # what those kept are worth together
    equalized: Collection | None = None  # of `source`, where that is not the given model

    def with_form(self, int8: Model, float_ops: tuple[FloatOp, ...]) -> Made:
        """Return the same with another INT8 form."""
        return replace(self, int8=int8, float_ops=float_ops)
