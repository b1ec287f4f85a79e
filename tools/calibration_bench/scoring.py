"""Outputs of an INT8 model beside those of the float model -> SQNR, agreement, metric and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[Sequence[Array]], list[Array]]  # the inputs of one frame -> its outputs
SEED = 0


@dataclass(frozen=True)
class Score:
    """A metric on labelled data, and the same metric on any choice of its parts."""

    metric: str
    value: float
    parts: int  # images, clips
    of_parts: Callable[[Array], float] | None = None  # indices, drawn with repetition -> metric


def standard_error(tool: Score, reference: Score, resamples: int) -> float | None:
    """Return the paired bootstrap standard error of tool - reference, or None without parts.

    Both are always scored on the same parts, so that what is hard for both cancels.
    """
    if not resamples or tool.of_parts is None or reference.of_parts is None:
        return None
    draw = np.random.default_rng(SEED)
    differences = []
    for _ in range(resamples):
        chosen = draw.integers(0, tool.parts, tool.parts)
        differences.append(tool.of_parts(chosen) - reference.of_parts(chosen))
    return float(np.nanstd(differences))


def top1(labels: Array, answers: Array) -> Score:
    """Score class indices against labels, both [N]."""
    correct = (answers == labels).astype(np.float64)
    return Score("top-1", float(correct.mean()), len(correct), lambda i: float(correct[i].mean()))


@dataclass(frozen=True)
class Fidelity:
    """How far outputs are from the float model's; the worst output's figures."""

    sqnr_db: float
    agreement: float | None  # share of equal classes, where an output is one score vector


class Comparison:
    """Adds up, frame by frame, what the outputs differ from the float model's.

    Args:
        reference: the float model's outputs, each [N, ...].
        run: the model to compare.
        classes: whether the outputs that are one vector are the scores of classes.
    """

    def __init__(self, reference: Sequence[Array], run: Run, *, classes: bool = True) -> None:
        self._reference, self._run, self._classes = reference, run, classes
        self._signal = np.zeros(len(reference))
        self._noise = np.zeros(len(reference))
        self._same = np.zeros(len(reference))
        self.frames = 0

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the next frame and count it; frames come in the reference's order."""
        outputs = self._run(inputs)
        for number, (expected, got) in enumerate(zip(self._reference, outputs, strict=True)):
            wanted, given = expected[self.frames].astype(np.float64), got.astype(np.float64)
            if wanted.shape != given.shape:
                raise ValueError(f"output {number} is {given.shape}, the float's {wanted.shape}")
            self._signal[number] += np.sum(wanted * wanted)
            self._noise[number] += np.sum(np.square(wanted - given))
            self._same[number] += wanted.argmax() == given.argmax()
        self.frames += 1
        return outputs

    def fidelity(self) -> Fidelity:
        """Return what the frames so far come to."""
        with np.errstate(divide="ignore"):
            ratios = self._signal / self._noise
        classes = [self._classes and is_scores(o.shape[1:]) for o in self._reference]
        agreements = self._same[classes] / max(1, self.frames)
        return Fidelity(
            sqnr_db=10 * math.log10(max(ratios.min(), 1e-30)),
            agreement=float(agreements.min()) if agreements.size else None,
        )


def is_scores(shape: Sequence[int]) -> bool:
    """True for one vector: [classes] or [1, .., classes]."""
    return len(shape) > 0 and math.prod(shape) == shape[-1] > 1
