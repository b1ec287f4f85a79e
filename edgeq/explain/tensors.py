"""CalibrationTable, histograms and INT8 model -> what each activation is like."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.methods import METHODS, Magnitudes, Range, squared_errors
from edgeq.calibrate.table import CalibrationTable, TensorRange
from edgeq.explain.explanation import MethodRange, TensorExplanation
from edgeq.explain.shapes import shape_tags
from edgeq.explain.twins import sharing, twin_of
from edgeq.quantize.affine import representable
from edgeq.tflite.model import Model
from edgeq.verify import decibels

DIGITS_DB = 3


def explain_tensors(
    model: Model, int8: Model, table: CalibrationTable, histograms: Mapping[str, Histogram]
) -> tuple[TensorExplanation, ...]:
    """Return every tensor of the table, in its order."""
    held = _int8_ranges(model, int8)
    ties = _ties(model, int8, table)
    return tuple(
        _explain(name, row, histograms.get(name, Histogram()), held.get(name), ties.get(name, ()))
        for name, row in table.tensors.items()
    )


def _explain(
    name: str,
    row: TensorRange,
    histogram: Histogram,
    held: tuple[float, float] | None,
    shares_with: tuple[str, ...],
) -> TensorExplanation:
    low, high = held or (None, None)
    return TensorExplanation(
        name=name,
        tags=shape_tags(histogram),
        count=histogram.count,
        min=row.min,
        max=row.max,
        lo=row.lo,
        hi=row.hi,
        method=row.method,
        clipped_ratio=row.clipped_ratio,
        int8_lo=low,
        int8_hi=high,
        shares_with=shares_with,
        methods=_by_every_method(histogram),
    )


def _by_every_method(histogram: Histogram) -> dict[str, MethodRange]:
    chosen: dict[str, Range] = {}
    for name, method in METHODS.items():
        guarded = chosen.get("entropy")
        # Most of the cost is the search for the least divergence; where the guard let its result
        # pass, both methods have the same.
        is_known = name == "entropy-unguarded" and guarded and guarded.method == "entropy"
        chosen[name] = guarded if is_known and guarded else method(histogram)
    return {name: _method_range(histogram, span) for name, span in chosen.items()}


def _method_range(histogram: Histogram, span: Range) -> MethodRange:
    return MethodRange(
        lo=span.lo,
        hi=span.hi,
        clipped_ratio=span.clipped_ratio,
        divergence=span.divergence if math.isfinite(span.divergence) else None,
        sqnr_db=histogram_sqnr_db(histogram, span.lo, span.hi),
    )


def histogram_sqnr_db(histogram: Histogram, lo: float, hi: float) -> float:
    """Return the SQNR of the values at 8 bits in the range [lo, hi], within +-200 dB.

    The range is one that clips |x| at the farther of its ends, as METHODS choose it. The signal
    is the sum of squares by bin centres, the noise that of `squared_errors`.
    """
    counts, width = histogram.magnitudes()
    reach, largest = max(-lo, hi), max(-histogram.min, histogram.max)
    bins = counts.size if reach >= largest else max(1, round(reach / width))
    noise = float(squared_errors(Magnitudes(counts, width, lo, hi))[bins - 1])
    signal = math.fsum((index + 0.5) ** 2 * int(n) for index, n in enumerate(counts) if n)
    return round(decibels(signal, noise), DIGITS_DB)


def _int8_ranges(model: Model, int8: Model) -> dict[str, tuple[float, float]]:
    names, held = model.names(), {}
    for tensor, twin in twin_of(model, int8).items():
        parameters = int8.quantization(twin)
        if parameters is not None:
            held[names[tensor]] = representable(parameters)
    return held


def _ties(model: Model, int8: Model, table: CalibrationTable) -> dict[str, tuple[str, ...]]:
    """Return for each float tensor the names of the others that have its int8 scale."""
    names, twins, groups = model.names(), twin_of(model, int8), sharing(int8)
    tensors = {twin: tensor for tensor, twin in twins.items()}

    def narrowness(name: str) -> float:
        row = table.tensors.get(name)
        return row.lo - row.hi if row is not None else 0.0

    ties = {}
    for tensor, twin in twins.items():
        others = sorted(tensors[t] for t in groups.get(twin, ()) if t in tensors and t != twin)
        ties[names[tensor]] = tuple(sorted((names[t] for t in others), key=narrowness))
    return ties
