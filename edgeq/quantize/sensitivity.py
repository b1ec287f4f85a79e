"""Float model + CalibrationTable + samples -> the ops whose INT8 form costs most, worst first.

Each op is quantized alone while all others stay float, and the noise that this leaves at the
model's outputs is the op's own. (A comparison of every activation of the INT8 model with float's
would blame the late ops for the noise of the early ones.) A last softmax is left out: it hides
the noise. Measured on ResNet-8, 400 other samples: the op ranked worst behind the softmax is worth
0.1 dB when it is float, the one ranked worst before it 4.3 dB.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import CalibrationError
from edgeq.quantize.convert import quantize
from edgeq.quantize.plan import make_plan
from edgeq.quantize.prepare import prepare
from edgeq.samples.store import Sample
from edgeq.tflite.logits import before_softmax, centered
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.suppression import before_suppression

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

MAX_RUNS = 256  # inferences of one ranking, roughly: 8 samples for 32 ops, 2 for 128 and more
MIN_SAMPLES, MAX_SAMPLES = 2, 8  # 32 samples choose MobileNet's float ops no better than 8
LIMIT_DB = 200.0  # what an exact match is reported as


@dataclass(frozen=True)
class OpNoise:
    """What one op costs when it alone runs in INT8."""

    index: int  # its position in the given model
    name: str
    noise: float  # share of the worst output's energy; infinite where that is not finite

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise at the worst output, within +-200 dB."""
        least, most = 10.0 ** (-LIMIT_DB / 10), 10.0 ** (LIMIT_DB / 10)
        return -10.0 * math.log10(min(max(self.noise, least), most))


def op_noise(
    model: Model,
    table: CalibrationTable,
    samples: Iterable[Sample],
    *,
    threads: int = 1,
    every_kernel: bool = False,
) -> tuple[OpNoise, ...]:
    """Return every op that computes in INT8 and what it costs alone, worst first.

    Ops that merely move data are left out: they add no noise. The samples with the least ids are
    taken, so that their order is no matter; how many is bounded by MAX_RUNS. Cost, one thread:
    40 ms per op to write and load its model, and an inference per op and sample: 0.8 s for
    MobileNet 0.25 (30 ops), 2 s for UltraFace (43), 10 s for DeepLab (69).

    Raises:
        CalibrationError: there is no sample to measure with.
    """
    prepared = prepare(model)
    plan = make_plan(prepared.model, table, (), prepared.ranges, every_kernel=every_kernel)
    computing = [position for position, rule in plan.rules.items() if not rule.moves_only]
    inputs = _chosen(samples, len(computing))
    (opened,), logits = before_softmax([before_suppression(prepared.model)])
    table = _renamed(table, prepared.model.names(), opened.names())

    def outputs(form: Model) -> Iterator[Outputs]:
        with contextlib.closing(Runner(form.to_bytes(), threads=threads)) as runner:
            yield from (centered(runner.run(given), logits) for given in inputs)

    reference = list(outputs(opened))
    every = frozenset(range(len(opened.operators)))
    ranking = []
    for position in computing:
        others = every - {position}
        alone = quantize(opened, table, float_ops=others, every_kernel=every_kernel).model
        noise = _noise(reference, outputs(alone))
        name = opened.op_name(opened.operators[position])
        ranking.append(OpNoise(prepared.positions[position], name, noise))
    return tuple(sorted(ranking, key=lambda op: (-op.noise, op.index)))


def float_ops_to_pass(
    ranking: Sequence[OpNoise], passes: Callable[[frozenset[int]], bool]
) -> frozenset[int] | None:
    """Return the fewest of the worst ops that must stay float, or None where all do not suffice.

    By doubling, then bisection: `passes` is asked about twice log2 of the answer's size, and what
    is returned has passed. It is the fewest if one more float op never undoes a pass.
    """
    failing, count = 0, min(1, len(ranking))
    while not passes(_worst(ranking, count)):
        if count == len(ranking):
            return None
        failing, count = count, min(2 * count, len(ranking))
    while count - failing > 1:
        middle = (failing + count) // 2
        if passes(_worst(ranking, middle)):
            count = middle
        else:
            failing = middle
    return _worst(ranking, count)


def _worst(ranking: Sequence[OpNoise], count: int) -> frozenset[int]:
    return frozenset(op.index for op in ranking[:count])


def sample_count(ops: int) -> int:
    """Return how many samples a ranking of so many ops takes."""
    return min(max(MAX_RUNS // max(ops, 1), MIN_SAMPLES), MAX_SAMPLES)


def _chosen(samples: Iterable[Sample], ops: int) -> list[Mapping[str, Array]]:
    chosen = heapq.nsmallest(sample_count(ops), samples, key=lambda sample: sample.id)
    if not chosen:
        raise CalibrationError(
            "there is no sample to find the model's sensitive ops with",
            hint="Add samples: at least two, so that one can be held out.",
        )
    return [sample.inputs for sample in chosen]


def _renamed(table: CalibrationTable, old: list[str], new: list[str]) -> CalibrationTable:
    """Return the table for a copy of the model that gives some tensors other names."""
    rows = {n: table.tensors[o] for o, n in zip(old, new, strict=True) if o in table.tensors}
    return dataclasses.replace(table, tensors=rows)


def _noise(reference: Sequence[Outputs], given: Iterable[Outputs]) -> float:
    """Return the worst output's noise as a share of its energy, over all samples together."""
    signals, noises = dict.fromkeys(reference[0], 0.0), dict.fromkeys(reference[0], 0.0)
    for expected, actual in zip(reference, given, strict=True):
        for name, values in expected.items():
            signal, noise = _energies(values, actual[name])
            signals[name] += signal
            noises[name] += noise
    return max((_share(noises[name], signals[name]) for name in signals), default=0.0)


def _energies(expected: Array, given: Array) -> tuple[float, float]:
    """Return signal and noise; values that are NaN or infinite in float say nothing."""
    if expected.shape != given.shape:
        return 0.0, math.inf
    known = np.isfinite(expected)
    exact, actual = expected[known].astype(np.float64), given[known].astype(np.float64)
    signal = float(exact @ exact)
    if not np.isfinite(actual).all():
        return signal, math.inf
    error = actual - exact
    return signal, float(error @ error)


def _share(noise: float, signal: float) -> float:
    if noise == 0.0:
        return 0.0
    return noise / signal if signal else math.inf
