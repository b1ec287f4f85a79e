"""Float model + samples + its INT8 form -> the noise that form adds, by output and sample."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate.table import CalibrationTable
from edgeq.errors import EngineError
from edgeq.quantize.convert import quantize
from edgeq.tflite.logits import before_softmax, centered
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.suppression import before_suppression

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

MAX_VALUES = 1 << 16  # of one output of one sample; of a larger one every n-th is compared
LIMIT_DB = 200.0  # what an exact match is reported as


@dataclass(frozen=True)
class Noise:
    """The noise energy of every output and sample, as a share of the output's energy in all."""

    shares: Array  # float64 [outputs, samples]; infinite where the form's values are not finite

    @property
    def worst(self) -> int:
        """The output that has most."""
        return int(self.shares.sum(axis=1).argmax())

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise at the worst output, within +-200 dB."""
        share = float(self.shares.sum(axis=1).max(initial=0.0))
        least, most = 10.0 ** (-LIMIT_DB / 10), 10.0 ** (LIMIT_DB / 10)
        return round(-10.0 * math.log10(min(max(share, least), most)), 3)


@dataclass(frozen=True)
class _Answers:
    """What the float model gives for every sample, output by output, and their energies."""

    values: list[list[Array]]
    signals: Array  # float64 [outputs]
    logits: frozenset[str]


class NoiseMeter:
    """Compares INT8 forms of one float model with it, on the same samples; float runs once.

    Of a last softmax its input is compared, and so is what a last suppression of detections reads;
    see `edgeq.tflite.logits` and `edgeq.tflite.suppression`.
    """

    def __init__(
        self,
        model: Model,
        samples: Sequence[Mapping[str, Array]],
        *,
        source: Model | None = None,
        threads: int = 1,
        every_kernel: bool = False,
    ) -> None:
        """Run the float model on the samples.

        Args:
            model: the float model.
            samples: its inputs; at least one.
            source: what `measure` quantizes where that is not `model`; see `of_ranges`.
            threads: CPU threads of one inference.
            every_kernel: as `quantize`.

        Raises:
            EngineError, InvalidRequestError: the model cannot be run on them.
        """
        self._samples, self._threads = samples, threads
        self._every_kernel = every_kernel
        self._model = before_suppression(model)
        (opened,), logits = before_softmax([self._model])
        self._expected = self._answers(opened, logits)
        self._measure = self.of_ranges(source or model)

    def measure(self, table: CalibrationTable) -> Noise:
        """Return the noise of the form that these ranges make.

        Raises:
            EngineError: the runtime refuses it.
        """
        return self._measure(table)

    def of_form(self, int8: Model) -> Noise:
        """Return the noise of an INT8 form, or of the float model with other constants.

        Raises:
            EngineError: the runtime refuses it, or it does not end as the float model does.
        """
        (model, opened), logits = before_softmax([self._model, before_suppression(int8)])
        if logits == self._expected.logits:
            return self._compared(opened, self._expected)
        if _output_names(model) != _output_names(opened):
            raise EngineError("the INT8 form does not end in the softmax that the float model has")
        return self._compared(opened, self._answers(model, logits))  # both as they are

    def of_ranges(self, source: Model) -> Callable[[CalibrationTable], Noise]:
        """Return a measurement of what `quantize` makes of `source` by a table.

        `source` is the float model, or a copy that differs in its constants.
        """
        (opened,), _ = before_softmax(
            [before_suppression(source)]
        )  # once here, so that no form needs to be opened
        names = list(zip(source.names(), opened.names(), strict=True))

        def measure(table: CalibrationTable) -> Noise:
            rows = {new: table.tensors[old] for old, new in names if old in table.tensors}
            own = replace(table, tensors=rows)
            int8 = quantize(opened, own, every_kernel=self._every_kernel).model
            return self._compared(int8, self._expected)

        return measure

    def _compared(self, int8: Model, expected: _Answers) -> Noise:
        noises = [
            [_noise(*pair) for pair in zip(*row, strict=True)]
            for row in zip(expected.values, self._run(int8, expected.logits), strict=True)
        ]
        energies = np.array(noises, np.float64).reshape(len(noises), -1).T
        return Noise(_shares(energies, expected.signals))

    def _answers(self, model: Model, logits: frozenset[str]) -> _Answers:
        values = self._run(model, logits)
        energies = [[_energy(each) for each in row] for row in values]
        signals = np.array(energies, np.float64).reshape(len(values), -1).sum(axis=0)
        return _Answers(values, signals, logits)

    def _run(self, model: Model, logits: frozenset[str]) -> list[list[Array]]:
        """Return the outputs of every sample."""
        with contextlib.closing(Runner(model.to_bytes(), threads=self._threads)) as runner:
            return [
                [_thinned(v) for v in centered(runner.run(given), logits).values()]
                for given in self._samples
            ]


def _output_names(model: Model) -> list[str]:
    with contextlib.closing(Runner(model.to_bytes())) as runner:
        return [spec.name for spec in runner.outputs]


def _shares(noises: Array, signals: Array) -> Array:
    """Return noises [outputs, samples] over signals [outputs]; no noise is no share of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = noises / signals[:, np.newaxis]
    known: Array = np.where(noises == 0.0, 0.0, np.where(np.isnan(shares), np.inf, shares))
    return known


def _thinned(values: Array) -> Array:
    """Return evenly spread values, in a step that meets every channel, as a flat copy."""
    flat = values.reshape(-1)
    step = -(-flat.size // MAX_VALUES)
    while step > 1 and math.gcd(step, flat.size) > 1:
        step += 1
    kept: Array = flat[:: max(step, 1)].copy()
    return kept


def _energy(values: Array) -> float:
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(finite @ finite)


def _noise(expected: Array, given: Array) -> float:
    """Return the energy of the difference; what is NaN or infinite in float says nothing."""
    if expected.shape != given.shape:
        return math.inf
    known = np.isfinite(expected)
    error = given[known].astype(np.float64) - expected[known]
    return float(error @ error) if np.isfinite(error).all() else math.inf
