"""An INT8 form + fit samples -> the same with its layers refined, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from edgeq.build.work import Inputs, Made, Work
from edgeq.errors import EngineError, InvalidRequestError
from edgeq.quantize.refine import correct_biases, correction_samples
from edgeq.samples.split import only
from edgeq.tflite.model import Model

BIAS_CORRECTION = "bias_correction"
ROUNDING = "adaptive_rounding"


def refined_as(
    work: Work,
    made: Made,
    refinements: tuple[str, ...],
    tick: Callable[[int], None] | None = None,
) -> Model | None:
    """Return the INT8 form with these refinements of its layers, None where they cannot be."""
    if BIAS_CORRECTION not in refinements:
        return made.int8
    inputs = fit_inputs(work, made, correction_samples(made.int8))
    try:
        return correct_biases(
            made.source,
            made.int8,
            inputs,
            rounding=ROUNDING in refinements,
            threads=work.options.threads,
            progress=tick,
        )
    except (EngineError, InvalidRequestError):  # not op by op, or not with samples of many shapes
        return None


def fit_inputs(work: Work, made: Made, most: int) -> list[Inputs]:
    """Return the inputs of the fit samples with the least ids that calibration took."""
    usable = sorted(work.split.fit - {sample.id for sample in made.dropped})
    samples = {s.id: s.inputs for s in only(work.source, frozenset(usable[:most]))}
    return [samples[i] for i in sorted(samples)]
