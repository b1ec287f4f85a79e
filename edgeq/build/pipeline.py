"""Float .tflite + samples -> a verified bundle: the whole pipeline on one screen.

This is `edgeq build`. The daemon runs the same command as a niced child and reads its progress as
JSON lines, so that a crash in here costs one build and never the served model.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict
from pathlib import Path

import edgeq
from edgeq.build.forms import first_form
from edgeq.build.gate import LATENCY_INPUTS, pass_gate
from edgeq.build.options import BuildOptions, BuildResult
from edgeq.build.refining import refined
from edgeq.build.work import Inputs, Keep, Made, Work
from edgeq.bundle import Bundle, Golden, Manifest, write_bundle
from edgeq.calibrate.collect import Dropped
from edgeq.calibrate.reuse import Calibration
from edgeq.calibrate.table import histograms_to_npz
from edgeq.engines import latency
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import choose_backend, load_float
from edgeq.errors import BundleError
from edgeq.files import sha256_bytes
from edgeq.observe.drift import DriftReference
from edgeq.observe.stages import Progress, Stages
from edgeq.quantize.convert import is_quantized
from edgeq.samples.split import SampleSource, only, split_samples
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import runtime_version
from edgeq.tflite.structure import check_structure
from edgeq.verify import Verdict

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
    backend = choose_backend(options.backend)
    with contextlib.ExitStack() as engines:
        reference = engines.enter_context(contextlib.closing(_reference(model, content, options)))
        split = split_samples(source, options.held_out_ratio)
        work = Work(
            content, model, source, split, options, stages, keep or _keep_nothing, calibration
        )
        made = first_form(work)
        if made.ranges is not None and options.refine:
            made = refined(work, made)
        gated = pass_gate(work, made, reference, backend, engines)
        made, engine, verdict, inputs = gated.made, gated.engine, gated.verdict, gated.inputs
        stages.begin("latency")
        # An INT8 model's reference kernels serve nobody: their time says nothing.
        timed = [engine] if made.ranges is None else [reference, engine]
        figures = latency.measure(timed, inputs[:LATENCY_INPUTS])
        stages.begin("bundle")
        golden = _golden(engine, inputs[: options.golden])
    bundle = _write(work, out, made, verdict, golden, _drift_reference(work, live), backend.name)
    stages.end()
    return BuildResult(
        bundle=bundle,
        backend=backend.name,
        method=made.method,
        tensors=len(made.ranges.tensors) if made.ranges else 0,
        samples=len(split.all) - len(made.dropped),
        dropped=(*(Dropped(i, UNUSABLE) for i in split.unusable), *made.dropped),
        float_ops=made.float_ops,
        candidates=made.candidates,
        refined=made.refined,
        refinements=made.refinements,
        refined_db=made.refined_db,
        verdict=verdict,
        latency=tuple(figures),
        stages=stages.seconds,
    )


def _keep_nothing(name: str, content: bytes) -> None:
    """What a build without `keep` does with the files on its way."""


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


def _drift_reference(work: Work, live: SampleSource | None) -> bytes:
    """Every one of these samples is a frame that is not drift."""
    source = live or (lambda: only(work.source, work.split.all))
    return DriftReference.from_frames(lambda: (sample.inputs for sample in source())).to_npz()


def _write(
    work: Work,
    out: Path,
    made: Made,
    verdict: Verdict,
    golden: Golden,
    drift: bytes,
    backend: str,
) -> Bundle:
    files = {
        "float.tflite": work.content,
        "int8.tflite": made.int8.to_bytes(),
        "verdict.json": verdict.to_json(),
        "golden.npz": golden.to_npz(),
        "drift.npz": drift,
    }
    if made.calibration is not None:
        files["calibration.json"] = made.calibration.to_json()
    if made.collection is not None:
        files["calibration.npz"] = histograms_to_npz(made.collection.histograms)
    if made.ranges is not None and made.equalized is not None:
        files["equalized.json"] = made.ranges.to_json()
        files["equalized.npz"] = histograms_to_npz(made.equalized.histograms)
    bundle = write_bundle(out, files, _manifest(work, made, backend))
    for name, content in files.items():
        work.keep(name, content)
    return bundle


def _manifest(work: Work, made: Made, backend: str) -> Manifest:
    return Manifest(
        name=work.options.name,
        engine=f"{backend}-int8",
        backend=backend,
        method=made.method,
        model_sha256=sha256_bytes(work.content),
        samples=made.ranges.samples if made.ranges else 0,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        created=time.time(),
        float_ops=tuple(asdict(op) for op in made.float_ops),
        refined=made.refined,
    )
