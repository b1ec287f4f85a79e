"""Fit samples -> the INT8 form whose ranges serve best, before any refinement."""

from __future__ import annotations

from edgeq.build.fidelity import fidelity_db
from edgeq.build.work import Made, Work, calibration_table
from edgeq.calibrate.collect import Collection, collect
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz
from edgeq.errors import CalibrationError, QuantizeError
from edgeq.quantize.convert import Quantized, is_quantized, quantize
from edgeq.tflite.model import Model

AUTO_METHODS = ("entropy", "percentile", "mse", "max")  # in order of preference
AS_IS = "as-is"  # the method of a model that arrived as INT8, with its own scales


def first_form(work: Work) -> Made:
    """Calibrate, and return the form by the method asked for; `auto` measures which.

    Raises:
        CalibrationError: no sample can be used.
        QuantizeError: no op of the model can be INT8.
    """
    if is_quantized(work.model):
        return Made(work.model, work.model, None, None, None, AS_IS)
    stages = work.stages
    collection, tables = _calibrated(work)
    methods = tuple(tables)
    stages.begin("quantize")
    quantized = {m: quantized_form(work.model, table) for m, table in tables.items()}
    for method in methods:
        work.keep(f"calibration.{method}.json", tables[method].to_json())
        work.keep(f"int8.{method}.tflite", quantized[method].model.to_bytes())
    scores: dict[str, float] = {}
    if len(methods) > 1:
        stages.begin("select", len(work.split.select))
        scores = fidelity_db(work, {m: q.model for m, q in quantized.items()}, stages.tick)
    best = max(scores, key=lambda m: scores[m]) if scores else methods[0]
    return Made(
        int8=quantized[best].model,
        source=work.model,
        ranges=tables[best],
        calibration=tables[best],
        collection=collection,
        method=best,
        float_ops=quantized[best].float_ops,
        candidates=scores,
        dropped=collection.dropped if collection else (),
    )


def _calibrated(work: Work) -> tuple[Collection | None, dict[str, CalibrationTable]]:
    """Return the histograms and a table by each method that is asked for.

    Raises:
        CalibrationError: no sample can be used, or a table given has no histograms to choose by.
    """
    given, wanted = work.calibration, work.options.method
    methods = AUTO_METHODS if wanted == "auto" else (wanted,)
    if given is None:
        work.stages.begin("calibrate", len(work.split.fit))
        threads, tick = work.options.threads, work.stages.tick
        collection = collect(work.model, work.fit(), threads=threads, progress=tick)
    elif given.collection is not None:
        collection = given.collection
    elif wanted in ("auto", given.table.method):
        return None, {given.table.method: given.table}
    else:
        raise CalibrationError(
            f"the table's ranges are by {given.table.method}; "
            f"{wanted} cannot be chosen without the histograms",
            hint="Copy the .npz of that calibration beside the table.",
        )
    work.keep("calibration.npz", histograms_to_npz(collection.histograms))
    return collection, {m: calibration_table(work.content, collection, m) for m in methods}


def quantized_form(model: Model, table: CalibrationTable) -> Quantized:
    """Return the INT8 form of a float model.

    Raises:
        QuantizeError: none of its ops can be INT8.
    """
    quantized = quantize(model, table)
    if quantized.is_float:
        reasons = sorted({f"{op.name}: {op.reason}" for op in quantized.float_ops})
        raise QuantizeError(
            f"none of the model's {len(quantized.float_ops)} ops can be INT8 "
            f"({'; '.join(reasons[:5]) or 'it has none'})",
            hint="Serve the float model: there is nothing to gain from a build.",
        )
    return quantized
