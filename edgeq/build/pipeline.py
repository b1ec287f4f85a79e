"""Float .tflite + samples -> a verified bundle: the whole pipeline on one screen.

This is `edgeq build`. The daemon runs the same command as a niced child and reads its progress as
JSON lines, so that a crash in here costs one build and never the served model.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgeq.build.bundling import Measured, explained, write
from edgeq.build.deploying import contenders, deploy, served_by_cpu
from edgeq.build.forms import first_form
from edgeq.build.gate import pass_gate
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.refining import refined
from edgeq.build.work import Inputs, Keep, Work
from edgeq.bundle import Golden
from edgeq.calibrate.collect import Dropped
from edgeq.calibrate.reuse import Calibration
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import load_float
from edgeq.errors import BundleError
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
) -> BuildResult:
    """Calibrate, quantize, verify and write the bundle `out`.

    Args:
        content: the float .tflite (or one that is already INT8: then its own scales are kept).
        source: gives the samples anew at each call.
        out: the bundle folder to make; must not exist.
        options: method, backend, gate.
        progress: told the stage, how much is done and of how much.
        live: samples of what the inputs look like now, which drift is measured against; None
            takes those of `source`.
        keep: given every file as it is made, those of a build that the gate refuses too.
        calibration: of this model, made before; None calibrates on the samples.

    Raises:
        ModelError, SampleError, CalibrationError, QuantizeError, EngineError: the stage failed.
        GateError: the engine does not agree with the float model; nothing is written.
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
        own_kernels = any(backend.has_own_kernels for backend in backends)
        work = Work(content, model, source, split, options, stages, keep, calibration, own_kernels)
        passed = pass_gate(work, refined(work, first_form(work)), reference, engines)
        deployed = deploy(work, passed, reference, backends, engines)
        deployed = served_by_cpu(work, deployed, reference, engines)
        gated, made = deployed.gated, deployed.gated.made
        golden = _golden(gated.engine, gated.inputs[: options.golden])
    stages.begin("explain")
    explanation = explained(work, gated)
    stages.begin("bundle")
    bundle = write(work, out, Measured(deployed, golden, explanation, live))
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
        latency=deployed.latency,
        stages=stages.seconds,
        explanation=explanation,
    )


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
