"""Fit samples -> the INT8 form whose ranges serve best, before any refinement."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from edgeq.build.conditions import collect_each
from edgeq.build.layers import fit_inputs
from edgeq.build.work import Made, Work, calibration_table
from edgeq.calibrate.collect import Collection
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz
from edgeq.errors import CalibrationError, QuantizeError
from edgeq.quantize.choose import MOST_TRIALS, Choice, Measure, choose_ranges
from edgeq.quantize.convert import Quantized, is_quantized, quantize
from edgeq.quantize.noise import Noise, NoiseMeter
from edgeq.quantize.shift import CORRECTED_ON, CorrectedMeter
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
    collection, tables = _calibrated(work)
    work.stages.begin("quantize")
    first = next(iter(tables.values()))
    quantized = quantized_form(work, work.model, first)
    plain = Made(
        int8=quantized.model,
        source=work.model,
        ranges=first,
        calibration=first,
        collection=collection,
        method=first.method,
        float_ops=quantized.float_ops,
        dropped=collection.dropped if collection else (),
    )
    _keep_forms(work, tables)
    chosen = _chosen(work, plain, tables) if len(tables) > 1 else None
    if chosen is None:
        return plain
    best = quantized_form(work, work.model, chosen.table)
    return replace(
        plain.with_form(best.model, best.float_ops),
        ranges=chosen.table,
        calibration=chosen.table,
        method=chosen.table.method,
        candidates=chosen.scores,
        trials=chosen.trials,
    )


def _chosen(work: Work, plain: Made, tables: Mapping[str, CalibrationTable]) -> Choice | None:
    """Return the ranges that serve best, tensor by tensor; None where the samples are gone."""
    most = len(tables) + MOST_TRIALS + 2  # the best one twice more: before the trials and after
    work.stages.begin("select", most)
    inputs = [s.inputs for s in sorted(work.select(), key=lambda sample: sample.id)]
    if not inputs:
        return None
    done, threads = itertools.count(1), work.options.threads

    def told(measure: Measure) -> Measure:
        def measured(table: CalibrationTable) -> Noise:
            noise = measure(table)
            work.stages.tick(next(done))
            return noise

        return measured

    if not work.options.refine:
        every_kernel = work.every_kernel
        plainly = NoiseMeter(work.model, inputs, threads=threads, every_kernel=every_kernel)
        return choose_ranges(tables, told(plainly.measure))
    correct_on = fit_inputs(work, plain, CORRECTED_ON)
    meter = CorrectedMeter(
        work.model, inputs, correct_on, threads=threads, every_kernel=work.every_kernel
    )
    return choose_ranges(tables, told(meter.measure), near=lambda table: told(meter.near(table)))


def _keep_forms(work: Work, tables: Mapping[str, CalibrationTable]) -> None:
    """Hand out what each method makes, to whoever wants to look."""
    if work.keep is None:
        return
    for method, table in tables.items():
        work.keep(f"calibration.{method}.json", table.to_json())
        form = quantized_form(work, work.model, table).model
        work.keep(f"int8.{method}.tflite", form.to_bytes())


def _calibrated(work: Work) -> tuple[Collection | None, dict[str, CalibrationTable]]:
    """Return the histograms and a table by each method that is asked for.

    Raises:
        CalibrationError: no sample can be used, or a table given has no histograms to choose by.
    """
    given, wanted = work.calibration, work.options.method
    methods = AUTO_METHODS if wanted == "auto" else (wanted,)
    if given is None:
        work.stages.begin("calibrate", len(work.split.fit))
        collection = collect_each(work, work.model, work.stages.tick)
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
    if work.keep is not None:
        work.keep("calibration.npz", histograms_to_npz(collection.histograms))
    return collection, {m: calibration_table(work.content, collection, m) for m in methods}


def quantized_form(work: Work, model: Model, table: CalibrationTable) -> Quantized:
    """Return the INT8 form of a float model.

    Raises:
        QuantizeError: none of its ops can be INT8.
    """
    quantized = quantize(model, table, every_kernel=work.every_kernel)
    if quantized.is_float:
        reasons = sorted({f"{op.name}: {op.reason}" for op in quantized.float_ops})
        raise QuantizeError(
            f"none of the model's {len(quantized.float_ops)} ops can be INT8 "
            f"({'; '.join(reasons[:5]) or 'it has none'})",
            hint="Serve the float model: there is nothing to gain from a build.",
        )
    return quantized
