"""An INT8 form -> the same closer to float: each refinement stays only where it measures better.

Judged by the samples that chose the ranges; made from fit samples alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeq.build.conditions import collect_each
from edgeq.build.fidelity import fidelity_db
from edgeq.build.forms import quantized_form
from edgeq.build.layers import BIAS_CORRECTION, ROUNDING, fit_inputs, refined_as
from edgeq.build.work import Made, Work
from edgeq.calibrate.methods import METHODS
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.quantize.equalize import equalize

EQUALIZATION = "equalization"
OF_LAYERS = ((BIAS_CORRECTION,), (BIAS_CORRECTION, ROUNDING))  # tried in this order
EQUALIZED_ON = 32  # samples: some of what they show is held in memory


def refined(work: Work, made: Made) -> Made:
    """Return the form with those refinements that bring the model closest to float."""
    if made.ranges is None or not work.options.refine:  # it arrived with scales of its own
        return made
    stages = work.stages
    stages.begin("refine", (len(OF_LAYERS) + 1) * len(made.int8.operators))
    forms: dict[tuple[str, ...], Made] = {(): made}
    for done, refinements in enumerate(OF_LAYERS):
        tick = _offset(stages.tick, done * len(made.int8.operators))
        form = refined_as(work, made, refinements, tick)
        if form is not None:
            forms[refinements] = replace(made, int8=form, refined=refinements)
    scores = _scores(work, forms)
    if not scores:
        return made
    best = max(scores, key=lambda r: scores[r])
    equalized = _equalized(work, made, best or OF_LAYERS[0])
    if equalized is not None:
        forms[equalized.refined] = equalized
        scores |= _scores(work, {equalized.refined: equalized})
        best = max(scores, key=lambda r: scores[r])
    return replace(
        forms[best],
        refinements={"+".join(r) or "none": db for r, db in scores.items()},
        refined_db=round(scores[best] - scores[()], 3),
    )


def _offset(tick: Callable[[int], None], by: int) -> Callable[[int], None]:
    return lambda done: tick(by + done)


def _scores(work: Work, forms: dict[tuple[str, ...], Made]) -> dict[tuple[str, ...], float]:
    named = {str(position): made.int8 for position, made in enumerate(forms.values())}
    scores = fidelity_db(work, named)
    return {r: scores[str(p)] for p, r in enumerate(forms)} if scores else {}


def _equalized(work: Work, made: Made, refinements: tuple[str, ...]) -> Made | None:
    """Return the form of the equalized model, refined alike; None where it cannot be."""
    if made.ranges is None or any(r.method not in METHODS for r in made.ranges.tensors.values()):
        return None  # ranges from elsewhere cannot be chosen again
    threads = work.options.threads
    try:
        found = equalize(work.model, fit_inputs(work, made, EQUALIZED_ON), threads=threads)
    except (EngineError, InvalidRequestError):  # not with samples of many shapes
        return None
    if found is None:
        return None
    collection = collect_each(work, found.model)
    ranges = made.ranges.for_histograms(collection.samples, collection.histograms)
    quantized = quantized_form(work, found.model, ranges)
    plain = replace(
        made.with_form(quantized.model, quantized.float_ops),
        source=found.model,
        ranges=ranges,
        equalized=collection,
    )
    form = refined_as(work, plain, refinements)
    if form is None:
        return None
    return replace(plain, int8=form, refined=(EQUALIZATION, *refinements))
