"""An INT8 form -> the same closer to float: each refinement stays only where it measures better.

Judged by the samples that chose the ranges; made from fit samples alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeq.build.fidelity import fidelity_db
from edgeq.build.work import Made, Work
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.quantize.refine import correct_biases, correction_samples
from edgeq.samples.split import only
from edgeq.tflite.model import Model

BIAS_CORRECTION = "bias_correction"


def refined(work: Work, made: Made) -> Made:
    """Correct the biases; keep that only where it brings the model closer to float."""
    work.stages.begin("refine", len(made.int8.operators))
    corrected = refined_as(work, made, (BIAS_CORRECTION,), work.stages.tick)
    if corrected is None:
        return made
    scores = fidelity_db(work, {"": made.int8, BIAS_CORRECTION: corrected})
    gained = round(scores[BIAS_CORRECTION] - scores[""], 3) if scores else 0.0
    if gained <= 0:
        return made
    return replace(
        made,
        int8=corrected,
        refined=(BIAS_CORRECTION,),
        refined_db=gained,
    )


def refined_as(
    work: Work,
    made: Made,
    refinements: tuple[str, ...],
    tick: Callable[[int], None] | None = None,
) -> Model | None:
    """Return the INT8 form with these refinements of its layers, None where they cannot be."""
    if BIAS_CORRECTION not in refinements:
        return made.int8
    usable = sorted(work.split.fit - {sample.id for sample in made.dropped})
    chosen = frozenset(usable[: correction_samples(made.int8)])
    samples = {sample.id: sample.inputs for sample in only(work.source, chosen)}
    inputs = [samples[i] for i in sorted(samples)]
    threads = work.options.threads
    try:
        return correct_biases(made.source, made.int8, inputs, threads=threads, progress=tick)
    except (EngineError, InvalidRequestError):  # not op by op, or not with samples of many shapes
        return None
