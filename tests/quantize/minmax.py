"""Ranges by minimum and maximum over samples: all that the quantizer's tests need to calibrate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.tap import tap
from tests.tiny import Array


def minmax_table(model: Model, samples: Iterable[Mapping[str, Array]]) -> CalibrationTable:
    """Run the tapped model; return the range of every float activation."""
    tapped, chosen = tap(model)
    runner, names = Runner(tapped.to_bytes()), model.names()
    ranges: dict[str, tuple[float, float]] = {}
    for sample in samples:
        seen = {names[i]: sample[s.name] for i, s in zip(model.inputs, runner.inputs, strict=True)}
        results = runner.run(sample)
        seen |= {names[t]: results[s.name] for t, s in zip(chosen, runner.outputs, strict=True)}
        for name, values in seen.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return table_of(ranges)


def table_of(ranges: Mapping[str, tuple[float, float]]) -> CalibrationTable:
    """Return a table that holds these ranges."""
    rows = {name: TensorRange(lo, hi, "max", 0.0, 0.0, lo, hi) for name, (lo, hi) in ranges.items()}
    return CalibrationTable("", "max", 1, rows)
