"""Fit samples -> the INT8 form whose ranges serve best, before any refinement."""

from __future__ import annotations

from edgeq.build.fidelity import fidelity_db
from edgeq.build.work import Made, Work, calibration_table
from edgeq.calibrate.collect import collect
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz
from edgeq.errors import QuantizeError
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
    stages, options = work.stages, work.options
    stages.begin("calibrate", len(work.split.fit))
    collection = collect(work.model, work.fit(), threads=options.threads, progress=stages.tick)
    work.keep("calibration.npz", histograms_to_npz(collection.histograms))
    stages.begin("quantize")
    methods = AUTO_METHODS if options.method == "auto" else (options.method,)
    tables = {m: calibration_table(work.content, collection, m) for m in methods}
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
        dropped=collection.dropped,
    )


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
