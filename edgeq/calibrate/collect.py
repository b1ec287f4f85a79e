"""Float model + samples -> one histogram for every graph input and float activation.

A frame is counted completely or not at all: one with NaN or
infinity anywhere, of another shape or type, or far brighter than the rest, is left out by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.archive import merge_histograms
from edgeq.calibrate.convergence import (
    Convergence,
    change,
    is_checkpoint,
    thresholds,
)
from edgeq.calibrate.gather import Dropped, Gathering
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.representative import SampleWarning
from edgeq.calibrate.screen import DEFAULT_SCREENING, Screening
from edgeq.calibrate.survey import Survey
from edgeq.calibrate.tapped import TappedModel
from edgeq.errors import CalibrationError
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model

__all__ = ["Collection", "Convergence", "Dropped", "SampleWarning", "collect"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Collection:
    """What calibration saw: histograms by tensor name (as `Model.names`), in execution order."""

    histograms: dict[str, Histogram]
    samples: int  # used
    dropped: tuple[Dropped, ...]
    is_converged: bool = False  # more samples were not asked for
    warnings: tuple[SampleWarning, ...] = ()  # why the samples may not be representative


def collect(
    model: Model,
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
    screening: Screening | None = DEFAULT_SCREENING,
    convergence: Convergence | None = None,
) -> Collection:
    """Run the samples through the tapped model and count every float activation.

    Args:
        model: the float model.
        samples: read once, one at a time.
        threads: CPU threads of one inference.
        progress: called with how many samples were read, used or not.
        screening: when a frame is an outlier; None keeps every finite frame.
        convergence: when to stop before the last sample; give them part by part as `groups` says.

    Raises:
        CalibrationError: no sample could be used, or the model has no float activation.
        EngineError: the runtime refuses the model.
    """
    collector = _Collector(TappedModel(model, threads), screening)
    for done, sample in enumerate(samples, 1):
        collector.add(sample)
        if progress is not None:
            progress(done)
        if convergence and is_checkpoint(done, convergence) and collector.converges(convergence):
            return replace(collector.collection(), is_converged=True)
    return collector.collection()


class _Collector:
    """Takes samples, runs them a batch at a time, and gathers what they show."""

    def __init__(self, tapped: TappedModel, screening: Screening | None) -> None:
        self._tapped, self._screening = tapped, screening
        self._survey = Survey(tapped.shown, tapped.inputs, tapped.outputs)
        self._thresholds: dict[str, float] = {}
        self._waiting: list[Sample] = []
        self._gathering = Gathering(
            tapped.shown, tapped.inputs, tapped.varying, tapped.rectified, tapped.twins
        )

    def add(self, sample: Sample) -> None:
        if reason := self._tapped.refusal(sample):
            self._gathering.dropped.append(Dropped(sample.id, reason))
            return
        self._waiting.append(sample)
        if len(self._waiting) == self._tapped.batch:
            self._run()

    def _run(self) -> None:
        waiting, self._waiting = self._waiting, []
        with np.errstate(invalid="ignore"):  # NaN is looked for, and reported
            failed = self._tapped.show(waiting, self._look)
        self._gathering.dropped += [Dropped(sample.id, reason) for sample, reason in failed]

    def _look(self, samples: Sequence[Sample], tensors: list[Array], batch: int) -> None:
        self._gathering.add([sample.id for sample in samples], tensors, batch)
        self._survey.add(tensors, batch, len(samples))

    def _flush(self) -> None:
        if self._waiting:
            self._run()
        self._gathering.flush()

    def converges(self, convergence: Convergence) -> bool:
        """True where the thresholds are those of the last time that this was asked."""
        self._flush()
        histograms, _ = self._gathering.tiers.separate(self._screening)
        before = self._thresholds
        self._thresholds = thresholds(histograms, convergence.method)
        return bool(before) and change(before, self._thresholds) <= convergence.tolerance

    def collection(self) -> Collection:
        """Return what was counted, without the outliers."""
        self._flush()
        tiers, dropped = self._gathering.tiers, self._gathering.dropped
        if tiers.frames == 0:
            raise _nothing_usable(dropped)
        histograms, outliers = tiers.separate(self._screening)
        return Collection(
            _with_twins(self._tapped, histograms),
            tiers.frames - len(outliers),
            (*dropped, *(Dropped(o.id, _outlier_reason(o.times)) for o in outliers)),
            warnings=self._survey.warnings(histograms, self._gathering.constant.tolist()),
        )


def _with_twins(tapped: TappedModel, histograms: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """All histograms in execution order: a twin's is its source's, and the zeros around."""
    complete = dict(histograms)
    for name, (source, _) in tapped.twins.items():
        if source in histograms:
            parts = [{name: histograms[s]} for s in (source, name) if s in histograms]
            complete |= merge_histograms(parts)
    return {name: complete[name] for name in tapped.names if name in complete}


def _outlier_reason(times: float) -> str:
    return f"about {times:.2g} times brighter than the median sample"


def _nothing_usable(dropped: Sequence[Dropped]) -> CalibrationError:
    if not dropped:
        return CalibrationError(
            "there are 0 samples to calibrate with; at least 1 is needed",
            hint="Add samples: 16 to 64 typical inputs are enough.",
        )
    return CalibrationError(
        f"none of the {len(dropped)} samples can be used; the first: {dropped[0].reason}",
        hint="Give samples exactly as the float model takes them: same shape, float32, finite.",
    )
