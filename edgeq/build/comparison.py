"""A form that the gate let pass and the engine that serves now -> is the new one worth a swap?

Both are held to the float model on the same held-out samples, so that what is hard about a sample
is no matter: their choices as they serve, their noise before any softmax, which hides it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.build.difference import Comparison, Difference, as_dict, refusal, swap_test
from edgeq.build.parts import held_out_new, held_out_old
from edgeq.build.work import Made, Work
from edgeq.engines.base import Engine, EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import GateError
from edgeq.samples.store import Sample
from edgeq.tflite.logits import before_softmax, centered
from edgeq.tflite.model import Model
from edgeq.tflite.suppression import before_suppression
from edgeq.verify import Verdict, is_near_equal

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]


@dataclass
class _Pairs:
    """What the two engines did, sample by sample."""

    gained: int = 0
    lost: int = 0
    signals: list[list[float]] = field(default_factory=list)  # [samples, outputs]
    before: list[list[float]] = field(default_factory=list)  # noise of the engine that serves
    after: list[list[float]] = field(default_factory=list)

    def difference(self) -> Difference:
        """Weigh the outputs by their signal over all samples: one alone may have next to none."""
        if not self.signals:
            return Difference(0, self.gained, self.lost, 0.0, 1.0)
        signal = np.mean(self.signals, axis=0)
        weights = np.divide(1.0, signal, out=np.zeros_like(signal), where=signal > 0)
        before, after = (np.asarray(noise) @ weights for noise in (self.before, self.after))
        gain_db, chance = swap_test(before, after)
        found = (round(gain_db, 3), round(chance, 5))
        return Difference(len(self.signals), self.gained, self.lost, *found)


def beside_present(
    work: Work, made: Made, verdict: Verdict, reference: Engine
) -> Comparison | None:
    """Compare a form with the model that serves now, None where none is given.

    On the CPU, whose answers every engine gives.

    Raises:
        EngineError: the runtime refuses the model that serves now.
        GateError: it is not better on what the inputs are now, or costs too much on the others.
    """
    if work.present is None:
        return None
    held = work.split.held_out
    work.stages.begin("compare", len(held))
    scores = [output.name for output in verdict.outputs if output.agreement is not None]
    with contextlib.ExitStack() as engines:
        judge = _judge(work, made, Model.from_bytes(work.present), reference, scores, engines)
        new = judge(held_out_new(work))
        old = judge(held_out_old(work))
    comparison = Comparison(new, old)
    if reason := refusal(new, old):
        raise GateError(
            f"the engine that serves stays: {reason}",
            hint="Wait for more samples of what the inputs are now; the drift stays shown.",
            verdict={**verdict.as_dict(), "comparison": as_dict(comparison)},
        )
    return comparison


def _judge(
    work: Work,
    made: Made,
    present: Model,
    reference: Engine,
    scores: list[str],
    engines: contextlib.ExitStack,
) -> Callable[[Iterable[Sample]], Difference]:
    """Return what compares the two over samples: their choices, and their noise."""
    forms = [before_suppression(model) for model in (work.model, present, made.int8)]
    opened, logits = before_softmax(forms)

    def load(model: Model, kind: EngineKind) -> Engine:
        engine = CpuEngine(model.to_bytes(), kind, threads=work.options.threads)
        return engines.enter_context(contextlib.closing(engine))

    both = [load(model, "cpu-int8") for model in (present, made.int8)]
    expecting = load(opened[0], "float")
    inner = [load(model, "cpu-int8") for model in opened[1:]]

    def judged(samples: Iterable[Sample]) -> Difference:
        pairs = _Pairs()
        for sample in samples:
            if scores:
                expected = reference.infer(sample.inputs)
                before, after = (_agrees(e.infer(sample.inputs), expected, scores) for e in both)
                pairs.gained += after and not before
                pairs.lost += before and not after
            given = [centered(e.infer(sample.inputs), logits) for e in (expecting, *inner)]
            pairs.signals.append([_energy(values) for values in given[0].values()])
            pairs.before.append(_noises(given[0], given[1]))
            pairs.after.append(_noises(given[0], given[2]))
        return pairs.difference()

    return judged


def _agrees(given: Outputs, expected: Outputs, scores: list[str]) -> bool:
    """True where every choice is float's, or as good to float."""
    return all(
        chosen == int(expected[name].argmax()) or is_near_equal(expected[name].ravel(), chosen)
        for name in scores
        for chosen in (int(given[name].argmax()),)
    )


def _energy(values: Array) -> float:
    """Return the sum of squares of what is finite."""
    finite = values.astype(np.float64)[np.isfinite(values)]
    return float(np.square(finite).sum())


def _noises(expected: Outputs, given: Outputs) -> list[float]:
    """Return the noise of each output; one that is NaN or infinite leaves nothing of the signal."""
    with np.errstate(invalid="ignore", over="ignore"):
        differences = [given[name].astype(np.float64) - v for name, v in expected.items()]
    return [
        _energy(difference) if np.isfinite(difference).all() else _energy(values)
        for difference, values in zip(differences, expected.values(), strict=True)
    ]
