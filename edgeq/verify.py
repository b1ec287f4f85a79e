"""Float engine, INT8 engine, held-out samples -> Verdict: may this engine serve?

Scores (an output that is a probability vector) are judged by top-1 agreement, everything else by
cosine and SQNR. A few samples cannot prove 95 % agreement; so the gate asks whether the upper end
of the Wilson interval still reaches the threshold, and fails only what is surely worse.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.engines.base import Engine
from edgeq.errors import CalibrationError
from edgeq.samples.store import Sample

Array = npt.NDArray[Any]
Infer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Task = Literal["auto", "classification", "regression"]

WILSON_Z = 1.645  # one-sided 95 %
LIMIT_DB = 200.0  # what an exact match is reported as: JSON has no infinity


@dataclass(frozen=True)
class VerifyOptions:
    """The gate's thresholds; each is the least that passes."""

    agreement: float = 0.95
    cosine: float = 0.98
    sqnr_db: float = 10.0
    task: Task = "auto"


@dataclass(frozen=True)
class OutputFidelity:
    """How far one output of the engine is from the float model's."""

    name: str
    agreement: float | None  # top-1, None where the output is no score vector
    agreement_upper: float | None  # upper end of its one-sided 95 % Wilson interval
    cosine: float
    sqnr_db: float
    nonfinite: int  # values that are NaN or infinite where float's are not


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, and everything it rests on."""

    passed: bool
    samples: int
    reasons: tuple[str, ...]  # why not; empty when passed
    outputs: tuple[OutputFidelity, ...]
    thresholds: VerifyOptions

    @property
    def agreement(self) -> float | None:
        """The worst top-1 agreement of any score output."""
        return min((o.agreement for o in self.outputs if o.agreement is not None), default=None)

    @property
    def sqnr_db(self) -> float:
        """The worst output's signal to quantization noise."""
        return min(output.sqnr_db for output in self.outputs)

    @property
    def cosine(self) -> float:
        """The worst output's cosine."""
        return min(output.cosine for output in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Return what `verdict.json` holds."""
        worst = {"agreement": self.agreement, "sqnr_db": self.sqnr_db, "cosine": self.cosine}
        return {**asdict(self), **worst}

    def to_json(self) -> bytes:
        """Return the content of `verdict.json`."""
        return json.dumps(self.as_dict(), indent=1).encode()


class OutputComparison:
    """Accumulates one output's distance from its reference, sample by sample."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self._task = task
        self._is_scores: bool | None = None
        self._samples = self._agreed = self._nonfinite = 0
        self._signal = self._noise = self._cosines = 0.0

    def add(self, reference: Array, actual: Array) -> None:
        """Compare one sample's values."""
        expected = reference.astype(np.float64).ravel()
        given = actual.astype(np.float64).ravel()
        if self._is_scores is None:
            self._is_scores = _is_score_vector(reference, self._task)
        self._samples += 1
        broken = np.isfinite(expected) & ~np.isfinite(given)
        self._nonfinite += int(broken.sum())
        finite = np.isfinite(expected) & np.isfinite(given)
        expected, given = expected[finite], given[finite]
        self._signal += float(expected @ expected)
        self._noise += float(np.square(expected - given).sum())
        self._cosines += _cosine(expected, given)
        if self._is_scores and expected.size:
            self._agreed += bool(expected.argmax() == given.argmax())

    def fidelity(self) -> OutputFidelity:
        """Return the figures over all samples added."""
        scores = bool(self._is_scores)
        return OutputFidelity(
            name=self.name,
            agreement=self._agreed / self._samples if scores else None,
            agreement_upper=wilson_upper(self._agreed, self._samples) if scores else None,
            cosine=self._cosines / self._samples,
            sqnr_db=decibels(self._signal, self._noise),
            nonfinite=self._nonfinite,
        )


def verify(
    reference: Infer,
    candidate: Engine,
    samples: Iterable[Sample],
    options: VerifyOptions,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Compare `candidate` with `reference` on held-out samples and decide.

    Raises:
        CalibrationError: there is no sample to judge by.
    """
    comparisons = {s.name: OutputComparison(s.name, options.task) for s in candidate.outputs}
    count = 0
    for sample in samples:
        expected, given = reference(sample.inputs), candidate.infer(sample.inputs)
        for name, comparison in comparisons.items():
            comparison.add(expected[name], given[name])
        count += 1
        if progress is not None:
            progress(count)
    if not count:
        raise CalibrationError(
            "there is no held-out sample to verify the engine on",
            hint="Add samples: at least two, so that one can be held out.",
        )
    outputs = tuple(comparison.fidelity() for comparison in comparisons.values())
    reasons = tuple(reason for output in outputs for reason in _objections(output, options, count))
    return Verdict(not reasons, count, reasons, outputs, options)


def _objections(output: OutputFidelity, options: VerifyOptions, samples: int) -> list[str]:
    name = f"output {output.name!r}"
    if output.nonfinite:
        return [f"{name} has {output.nonfinite} values that are NaN or infinite"]
    if output.agreement is not None and output.agreement_upper is not None:
        if output.agreement_upper >= options.agreement:
            return []
        share, best = output.agreement, output.agreement_upper
        found = f"agrees with float in {share:.1%} of {samples} samples (at best {best:.1%})"
        return [f"{name} {found}; the gate asks for {options.agreement:.1%}"]
    reasons = []
    if output.cosine < options.cosine:
        reasons.append(
            f"{name} has cosine {output.cosine:.4f} to float; the gate asks for {options.cosine}"
        )
    if output.sqnr_db < options.sqnr_db:
        reasons.append(
            f"{name} has SQNR {output.sqnr_db:.1f} dB; the gate asks for {options.sqnr_db:.1f} dB"
        )
    return reasons


def _is_score_vector(values: Array, task: Task) -> bool:
    """True for one vector of class scores: what a softmax writes, or what the task says it is."""
    is_vector = values.ndim >= 1 and values.size == values.shape[-1] >= 2
    if task != "auto" or not is_vector:
        return is_vector and task == "classification"
    return bool(values.min() >= 0) and abs(float(values.sum(dtype=np.float64)) - 1.0) < 0.02


def _cosine(a: Array, b: Array) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return float(np.array_equal(a, b))
    return float(a @ b) / norms


def decibels(signal: float, noise: float) -> float:
    """Return 10*log10(signal/noise), held within +-200 dB."""
    if noise == 0.0:
        return LIMIT_DB
    if signal == 0.0:
        return -LIMIT_DB
    return max(-LIMIT_DB, min(LIMIT_DB, 10.0 * math.log10(signal / noise)))


def wilson_upper(successes: int, trials: int, z: float = WILSON_Z) -> float:
    """Return the upper end of the Wilson score interval for a share (Wilson 1927)."""
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return min(1.0, (centre + spread) / (1 + z * z / trials))
