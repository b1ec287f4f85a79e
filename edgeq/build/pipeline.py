"""Float .tflite + samples -> a verified bundle: the whole pipeline on one screen.

This is `edgeq build`. The daemon runs the same command as a niced child and reads its progress as
JSON lines, so that a crash in here costs one build and never the served model.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from edgeq.build.bundling import Measured, explained, write
from edgeq.build.comparison import beside_present
from edgeq.build.deploying import Deployed, contenders, deploy, served_by_cpu
from edgeq.build.difference import Comparison
from edgeq.build.forms import first_form
from edgeq.build.gate import pass_gate
from edgeq.build.mixes import mixes
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.refining import refined
from edgeq.build.work import Inputs, Keep, Work
from edgeq.bundle import Golden
from edgeq.calibrate.collect import Dropped
from edgeq.calibrate.reuse import Calibration
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import Backend, load_float
from edgeq.errors import BundleError, GateError
from edgeq.observe.stages import Progress, Stages
from edgeq.quantize.convert import is_quantized
from edgeq.samples.split import SampleSource, split_samples
from edgeq.tflite.model import Model
from edgeq.tflite.structure import check_structure

UNUSABLE = "an input holds NaN or infinity"


def build(
    content: bytes,
    source: SampleSource,
    out: Path,
    options: BuildOptions,
    progress: Progress | None = None,
    live: SampleSource | None = None,
    keep: Keep | None = None,
    calibration: Calibration | None = None,
    present: bytes | None = None,
) -> BuildResult:
    """Calibrate, quantize, verify and write the bundle `out`.

    Args:
        content: the float .tflite (or one that is already INT8: then its own scales are kept).
        source: gives the samples anew at each call.
        out: the bundle folder to make; must not exist.
        options: method, backend, gate.
        progress: told the stage, how much is done and of how much.
        live: those of `source` that show what the inputs are now: the gate judges them by
            themselves, and drift is measured against them; None: all do.
        keep: given every file as it is made, those of a build that the gate refuses too.
        calibration: of this model, made before; None calibrates on the samples.
        present: the INT8 model that serves now, which the new one must be better than on `live`.

    Raises:
        ModelError, SampleError, CalibrationError, QuantizeError, EngineError: the stage failed.
        GateError: it does not agree with the float model, or is no better than what serves.
        BundleError: `out` is there already, or the disk refuses it.
    """
    stages = Stages(progress)
    stages.begin("read")
    _check_free(out)
    model = Model.from_bytes(content)
    check_structure(model)
    backends = contenders(options.backend, options.target)
    with contextlib.ExitStack() as engines:
        reference = engines.enter_context(contextlib.closing(_reference(model, content, options)))
        split = split_samples(source, options.held_out_ratio)
        work = Work(content, model, source, split, options, stages, keep, calibration)
        work = replace(work, new=_ids(live), present=present, every_kernel=_have_kernels(backends))
        deployed, comparison = _deployed(work, reference, backends, engines)
        gated, made = deployed.gated, deployed.gated.made
        golden = _golden(gated.engine, gated.inputs[: options.golden])
    stages.begin("explain")
    explanation = explained(work, gated)
    stages.begin("bundle")
    bundle = write(work, out, Measured(deployed, golden, explanation, live, comparison))
    stages.end()
    return BuildResult(
        bundle=bundle,
        backend=deployed.backend,
        details=deployed.details,
        method=made.method,
        tensors=len(made.ranges.tensors) if made.ranges else 0,
        samples=len(split.all) - len(made.dropped),
        dropped=(*(Dropped(i, UNUSABLE) for i in split.unusable), *made.dropped),
        warnings=made.collection.warnings if made.collection else (),
        float_ops=made.float_ops,
        candidates=made.candidates,
        trials=made.trials,
        refined=made.refined,
        refinements=made.refinements,
        refined_db=made.refined_db,
        verdict=gated.verdict,
        comparison=comparison,
        latency=deployed.latency,
        stages=stages.seconds,
        explanation=explanation,
    )


def _ids(source: SampleSource | None) -> frozenset[str]:
    return frozenset(sample.id for sample in source()) if source else frozenset()


def _have_kernels(backends: tuple[Backend, ...]) -> bool:
    return any(backend.has_own_kernels for backend in backends)


def _deployed(
    work: Work,
    reference: Engine,
    backends: tuple[Backend, ...],
    engines: contextlib.ExitStack,
) -> tuple[Deployed, Comparison | None]:
    """Return the first form that the gate lets pass and that is better than what serves, deployed.

    Raises:
        GateError: there is none; it says what was wrong with the first, made of all samples.
    """
    refused: list[GateError] = []
    for split in mixes(work.split, work.new):
        mixed = replace(work, split=split)
        try:
            passed = pass_gate(mixed, refined(mixed, first_form(mixed)), reference, engines)
            comparison = beside_present(mixed, passed.made, passed.verdict, reference)
        except GateError as error:
            refused.append(error)
        else:
            deployed = deploy(mixed, passed, reference, backends, engines)
            return served_by_cpu(mixed, deployed, reference, engines), comparison
    raise refused[0]


def _check_free(out: Path) -> None:
    """Say so now, not after the whole build."""
    if out.exists():
        raise BundleError(
            f"{out} is already there; a bundle is never overwritten",
            hint="Give another folder with --out, or remove that one first.",
        )


def _reference(model: Model, content: bytes, options: BuildOptions) -> Engine:
    """Float, or for a model that arrived INT8 the runtime's own reference kernels."""
    if is_quantized(model):
        return CpuEngine(content, "cpu-int8", threads=options.threads, delegate=False)
    return load_float(content, threads=options.threads)


def _golden(engine: Engine, inputs: list[Inputs]) -> Golden:
    return Golden(tuple(inputs), tuple(engine.infer(given) for given in inputs))
