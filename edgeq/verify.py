"""Float engine, INT8 engine, held-out samples -> Verdict: may this engine serve?

Scores (an output that is a probability vector) are judged by the class they choose, everything
else by cosine and SQNR. A choice counts as float's where float itself is undecided: it rates the
engine's class at least half as likely as its own. MobileNet 0.25 on ImageNet, without bias
correction: 74 % equal top-1, 90 % so, at no loss of accuracy. It forgives a broken engine little,
not nothing: ranges clipped to half gave VWW 87 -> 90 %, ResNet-8 87.5 -> 90 %, KWS 89.5 -> 89.5 %.
A few samples cannot prove a share; so the gate asks whether the upper end of the one-sided 95 %
Wilson interval still reaches the threshold, and refuses what is surely below it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.engines.base import Engine
from edgeq.errors import CalibrationError
from edgeq.samples.naming import stratum_in_words
from edgeq.samples.store import Sample
from edgeq.tflite.logits import centered

Array = npt.NDArray[Any]
Infer = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Task = Literal["auto", "classification", "regression"]
Parts = Callable[[Sample], Collection[str]]

WILSON_Z = 1.645  # one-sided 95 %
UNDECIDED = 0.5  # float rates the engine's class at least half as likely as its own: no error
SUM_TOLERANCE = 0.02  # of a softmax's sum
OLD, NEW = "old", "new"  # held-out samples from before, and of what the inputs are now
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
    accepted: float | None  # as agreement, but a choice between near-equals counts as float's
    accepted_upper: float | None  # upper end of its one-sided 95 % Wilson interval
    cosine: float  # mean over the samples
    sqnr_db: float  # over all samples together
    nonfinite: int  # values that are NaN or infinite where float's are not
    reshaped: int  # samples for which the shape is not float's
    compared: int  # samples with at least one value that could be compared


@dataclass(frozen=True)
class Verdict:
    """The gate's answer, and everything it rests on.

    `parts` are the same over some of the samples: `OLD`, `NEW`, and each stratum of a store that
    has enough of them. Each must pass: a mean over all would let one condition pay for another.
    """

    passed: bool
    samples: int
    reasons: tuple[str, ...]  # why not; empty when passed
    outputs: tuple[OutputFidelity, ...]
    thresholds: VerifyOptions
    parts: Mapping[str, Verdict] = field(default_factory=dict)

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
        own = asdict(replace(self, parts={}))
        del own["parts"]
        parts = {name: part.as_dict() for name, part in self.parts.items()}
        sides = {name: parts.pop(name) for name in (OLD, NEW) if name in parts}
        return {**own, **worst, **sides, **({"strata": parts} if parts else {})}

    def to_json(self) -> bytes:
        """Return the content of `verdict.json`."""
        return json.dumps(self.as_dict(), indent=1).encode()


class OutputComparison:
    """Accumulates one output's distance from its reference; the order of samples is no matter."""

    def __init__(self, name: str, task: Task) -> None:
        self.name = name
        self._task = task
        self._is_scores: bool | None = None  # until a sample has shown it
        self._agreed = self._accepted = self._nonfinite = self._reshaped = 0
        self._signals: list[float] = []
        self._noises: list[float] = []
        self._cosines: list[float] = []

    def add(self, reference: Array, actual: Array) -> None:
        """Compare one sample's values; those that are NaN or infinite in float say nothing."""
        if reference.shape != actual.shape:
            self._reshaped += 1
            return
        expected = reference.astype(np.float64).ravel()
        given = actual.astype(np.float64).ravel()
        says_something = np.isfinite(expected)
        finite = says_something & np.isfinite(given)
        self._nonfinite += int(says_something.sum() - finite.sum())
        if says_something.all():
            is_vector = _is_score_vector(reference, self._task)
            self._is_scores = is_vector and self._is_scores is not False
        expected, given = expected[finite], given[finite]
        if expected.size:
            chosen, best = int(given.argmax()), int(expected.argmax())
            self._agreed += chosen == best
            self._accepted += chosen == best or is_near_equal(expected, chosen)
            self._signals.append(float(expected @ expected))
            self._noises.append(float(np.square(expected - given).sum()))
            self._cosines.append(_cosine(expected, given))

    def fidelity(self) -> OutputFidelity:
        """Return the figures over all samples added."""
        compared = len(self._cosines)
        scores = bool(self._is_scores) and compared > 0
        return OutputFidelity(
            name=self.name,
            agreement=self._agreed / compared if scores else None,
            accepted=self._accepted / compared if scores else None,
            accepted_upper=wilson_upper(self._accepted, compared) if scores else None,
            cosine=math.fsum(self._cosines) / compared if compared else 0.0,
            sqnr_db=decibels(math.fsum(self._signals), math.fsum(self._noises))
            if compared
            else -LIMIT_DB,
            nonfinite=self._nonfinite,
            reshaped=self._reshaped,
            compared=compared,
        )


def verify(
    reference: Infer,
    candidate: Engine,
    samples: Iterable[Sample],
    options: VerifyOptions,
    progress: Callable[[int], None] | None = None,
    parts_of: Parts | None = None,
) -> Verdict:
    """Compare `candidate` with `reference` on held-out samples and decide.

    `parts_of` names the parts that a sample is of, which are judged by themselves, too.

    Raises:
        CalibrationError: there is no sample to judge by.
    """
    whole = _Judgement(candidate, options)
    parts: dict[str, _Judgement] = {}
    for sample in samples:
        expected, given = reference(sample.inputs), candidate.infer(sample.inputs)
        whole.add(expected, given)
        for part in parts_of(sample) if parts_of else ():
            parts.setdefault(part, _Judgement(candidate, options)).add(expected, given)
        if progress is not None:
            progress(whole.count)
    if not whole.count:
        raise CalibrationError(
            "there is no held-out sample to verify the engine on",
            hint="Add samples: at least two, so that one can be held out.",
        )
    return _with_parts(whole.verdict(), {name: part.verdict() for name, part in parts.items()})


class _Judgement:
    """Every output of an engine over some of the samples."""

    def __init__(self, candidate: Engine, options: VerifyOptions) -> None:
        self._options = options
        self._outputs = [OutputComparison(spec.name, options.task) for spec in candidate.outputs]
        self.count = 0

    def add(self, expected: Mapping[str, Array], given: Mapping[str, Array]) -> None:
        self.count += 1
        for output in self._outputs:
            output.add(expected[output.name], given[output.name])

    def verdict(self) -> Verdict:
        count, options = self.count, self._options
        outputs = tuple(output.fidelity() for output in self._outputs)
        found = tuple(
            reason for output in outputs for reason in _objections(output, options, count)
        )
        return Verdict(not found, count, found, outputs, options)


def _with_parts(whole: Verdict, parts: Mapping[str, Verdict]) -> Verdict:
    reasons = [f"{_in_words(name)}: {r}" for name in sorted(parts) for r in parts[name].reasons]
    reasons = [*whole.reasons, *reasons]
    return replace(whole, passed=not reasons, reasons=tuple(reasons), parts=dict(parts))


def _in_words(part: str) -> str:
    return f"{part} samples" if part in (OLD, NEW) else f"samples {stratum_in_words(part)}"


def rank(
    reference: Infer,
    candidates: Mapping[str, Engine],
    samples: Iterable[Sample],
    progress: Callable[[int], None] | None = None,
    logits: Collection[str] = (),
) -> dict[str, float]:
    """Return each candidate's SQNR in dB on its worst output; nothing without a sample.

    Of the outputs in `logits`, what all classes have in common is left out: a softmax ignores it.
    """
    distances = {
        name: [OutputComparison(spec.name, "regression") for spec in engine.outputs]
        for name, engine in candidates.items()
    }
    count = 0
    for count, sample in enumerate(samples, 1):
        expected = centered(reference(sample.inputs), logits)
        for name, engine in candidates.items():
            given = centered(engine.infer(sample.inputs), logits)
            for comparison in distances[name]:
                comparison.add(expected[comparison.name], given[comparison.name])
        if progress is not None:
            progress(count)
    worst = {n: min(c.fidelity().sqnr_db for c in several) for n, several in distances.items()}
    return {name: round(sqnr_db, 3) for name, sqnr_db in worst.items()} if count else {}


def _objections(output: OutputFidelity, options: VerifyOptions, samples: int) -> list[str]:
    name = f"output {output.name!r}"
    if output.reshaped:
        return [f"{name} has another shape than float's in {output.reshaped} of {samples} samples"]
    if output.nonfinite:
        return [f"{name} has {output.nonfinite} values that are NaN or infinite; float's are not"]
    if not output.compared:
        return [f"{name} cannot be judged: float's is NaN, infinite or empty in all samples"]
    if output.accepted is not None and output.accepted_upper is not None:
        if output.accepted_upper >= options.agreement:
            return []
        share, best = output.accepted, output.accepted_upper
        found = f"chooses as float does in {share:.1%} of {samples} samples (at best {best:.1%})"
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
    return (
        bool(values.min() >= 0) and abs(float(values.sum(dtype=np.float64)) - 1.0) < SUM_TOLERANCE
    )


def is_near_equal(scores: Array, chosen: int) -> bool:
    """True where float holds class `chosen` at least half as likely as its own first choice.

    Probabilities are taken as they are, other scores as logits.
    """
    best = scores.max()
    if scores.min() >= 0.0 and scores.sum() <= 1.0 + SUM_TOLERANCE:
        return bool(scores[chosen] >= UNDECIDED * best)
    return bool(scores[chosen] >= best + math.log(UNDECIDED))


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
