"""A float model, its histograms and a few inputs -> how close it comes to float by each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS
from edgeq.calibrate.table import CalibrationTable
from edgeq.quantize.noise import NoiseMeter
from edgeq.tflite.model import Model

Inputs = Mapping[str, npt.NDArray[Any]]

DIGITS_DB = 3


def sqnr_by_method(
    model: Model,
    histograms: Mapping[str, Histogram],
    inputs: Sequence[Inputs],
    *,
    threads: int = 1,
) -> dict[str, float]:
    """Return the SQNR in dB of the worst output by each of METHODS, without any refinement.

    Before a softmax, as `NoiseMeter` has it. MobileNet 0.25, 4 inputs, all methods: 0.6 s.

    Raises:
        QuantizeError: no op of the model can be INT8.
        EngineError: the runtime refuses a model.
    """
    meter = NoiseMeter(model, [dict(given) for given in inputs], threads=threads)
    tables = {
        method: CalibrationTable.from_histograms("", method, len(inputs), histograms)
        for method in METHODS
    }
    return {name: round(meter.measure(table).sqnr_db, DIGITS_DB) for name, table in tables.items()}
