"""Float .tflite + samples -> a verified bundle: the whole pipeline on one screen.

This is `edgeq build`. The daemon runs the same command as a niced child and reads its progress as
JSON lines, so that a crash in here costs one build and never the served model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

import edgeq
from edgeq.built import BuildOptions, BuildResult
from edgeq.bundle import Bundle, Golden, Manifest, write_bundle
from edgeq.calibrate.collect import Collection, Dropped, collect
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz
from edgeq.engines import latency
from edgeq.engines.base import Engine, EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import Backend, choose_backend, load_float
from edgeq.errors import BundleError, EngineError, GateError, InvalidRequestError, QuantizeError
from edgeq.files import sha256_bytes
from edgeq.mixed import MixedSearch, mixed_models
from edgeq.observe.drift import DriftReference
from edgeq.observe.stages import Progress, Stages
from edgeq.quantize.convert import FloatOp, Quantized, is_quantized, quantize
from edgeq.quantize.refine import correct_biases, correction_samples
from edgeq.samples.split import SampleSource, Split, only, split_samples
from edgeq.samples.store import Sample
from edgeq.tflite.logits import before_softmax
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import runtime_version
from edgeq.tflite.structure import check_structure
from edgeq.verify import Verdict, rank, verify

Inputs = dict[str, npt.NDArray[Any]]
Keep = Callable[[str, bytes], None]  # file name, content

AUTO_METHODS = ("entropy", "percentile", "mse", "max")  # in order of preference
AS_IS = "as-is"  # the method of a model that arrived as INT8, with its own scales
BIAS_CORRECTION = "bias_correction"
LATENCY_INPUTS = 4
UNUSABLE = "an input holds NaN or infinity"


def build(
    content: bytes,
    source: SampleSource,
    out: Path,
    options: BuildOptions,
    progress: Progress | None = None,
    live: SampleSource | None = None,
    keep: Keep | None = None,
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
        work = _Work(content, model, source, split, options, stages, keep or _keep_nothing)
        gated = _pass_gate(work, _quantize(work), reference, backend, engines)
        made, engine, verdict, inputs = gated.made, gated.engine, gated.verdict, gated.inputs
        stages.begin("latency")
        # An INT8 model's reference kernels serve nobody: their time says nothing.
        timed = [engine] if made.table is None else [reference, engine]
        figures = latency.measure(timed, inputs[:LATENCY_INPUTS])
        stages.begin("bundle")
        golden = _golden(engine, inputs[: options.golden])
    bundle = _write(work, out, made, verdict, golden, _drift_reference(work, live), backend.name)
    stages.end()
    return BuildResult(
        bundle=bundle,
        backend=backend.name,
        method=made.method,
        tensors=len(made.table.tensors) if made.table else 0,
        samples=len(split.all) - len(made.dropped),
        dropped=(*(Dropped(i, UNUSABLE) for i in split.unusable), *made.dropped),
        float_ops=made.float_ops,
        candidates=made.candidates,
        refined=made.refined,
        refined_db=made.refined_db,
        verdict=verdict,
        latency=tuple(figures),
        stages=stages.seconds,
    )


@dataclass(frozen=True)
class _Work:
    """What every step of one build reads."""

    content: bytes
    model: Model
    source: SampleSource
    split: Split
    options: BuildOptions
    stages: Stages
    keep: Keep


def _keep_nothing(name: str, content: bytes) -> None:
    """What a build without `keep` does with the files on its way."""


def _check_free(out: Path) -> None:
    """Say so now, not after the whole build."""
    if out.exists():
        raise BundleError(
            f"{out} is already there; a bundle is never overwritten",
            hint="Give another folder with --out, or remove that one first.",
        )


def calibration_table(content: bytes, collection: Collection, method: str) -> CalibrationTable:
    """Return the ranges that `method` chooses from the histograms of the model `content`."""
    return CalibrationTable.from_histograms(
        sha256_bytes(content), method, collection.samples, collection.histograms
    )


@dataclass(frozen=True)
class _Made:
    int8: bytes
    table: CalibrationTable | None  # None where the model arrived quantized
    histograms: bytes
    method: str
    candidates: Mapping[str, float]
    float_ops: tuple[FloatOp, ...]
    dropped: tuple[Dropped, ...]
    refined: tuple[str, ...] = ()
    refined_db: float = 0.0


def _reference(model: Model, content: bytes, options: BuildOptions) -> Engine:
    """Float, or for a model that arrived INT8 the runtime's own reference kernels."""
    if is_quantized(model):
        return CpuEngine(content, "cpu-int8", threads=options.threads, delegate=False)
    return load_float(content, threads=options.threads)


def _quantize(work: _Work) -> _Made:
    if is_quantized(work.model):
        return _Made(work.content, None, b"", AS_IS, {}, (), ())
    stages, options = work.stages, work.options
    stages.begin("calibrate", len(work.split.fit))
    fit = only(work.source, work.split.fit)
    collection = collect(work.model, fit, threads=options.threads, progress=stages.tick)
    histograms = histograms_to_npz(collection.histograms)
    work.keep("calibration.npz", histograms)
    stages.begin("quantize")
    methods = AUTO_METHODS if options.method == "auto" else (options.method,)
    tables = {m: calibration_table(work.content, collection, m) for m in methods}
    quantized = {m: _quantized(work.model, table) for m, table in tables.items()}
    for method in methods:
        work.keep(f"calibration.{method}.json", tables[method].to_json())
        work.keep(f"int8.{method}.tflite", quantized[method].model.to_bytes())
    forms = {method: q.model for method, q in quantized.items()}
    scores: dict[str, float] = {}
    if len(methods) > 1:
        stages.begin("select", len(work.split.select))
        scores = _scores(work, forms, stages.tick)
    best = max(scores, key=lambda m: scores[m]) if scores else methods[0]
    made = _Made(
        int8=forms[best].to_bytes(),
        table=tables[best],
        histograms=histograms,
        method=best,
        candidates=scores,
        float_ops=quantized[best].float_ops,
        dropped=collection.dropped,
    )
    return _refine(work, made, forms[best]) if options.refine else made


def _refine(work: _Work, made: _Made, int8: Model) -> _Made:
    """Correct the biases; keep that only where it brings the model closer to float."""
    work.stages.begin("refine", len(int8.operators))
    corrected = _corrected(work, made, int8, work.stages.tick)
    if corrected is None:
        return made
    scores = _scores(work, {"": int8, BIAS_CORRECTION: corrected})
    gained = round(scores[BIAS_CORRECTION] - scores[""], 3) if scores else 0.0
    if gained <= 0:
        return made
    return replace(made, int8=corrected.to_bytes(), refined=(BIAS_CORRECTION,), refined_db=gained)


def _corrected(
    work: _Work, made: _Made, int8: Model, tick: Callable[[int], None] | None = None
) -> Model | None:
    """Return the model with corrected biases, None where they cannot be."""
    usable = sorted(work.split.fit - {sample.id for sample in made.dropped})
    chosen = frozenset(usable[: correction_samples(int8)])
    samples = {sample.id: sample.inputs for sample in only(work.source, chosen)}
    inputs = [samples[i] for i in sorted(samples)]
    threads = work.options.threads
    try:
        return correct_biases(work.model, int8, inputs, threads=threads, progress=tick)
    except (EngineError, InvalidRequestError):  # not op by op, or not with samples of many shapes
        return None


def _quantized(model: Model, table: CalibrationTable) -> Quantized:
    quantized = quantize(model, table)
    if quantized.is_float:
        reasons = sorted({f"{op.name}: {op.reason}" for op in quantized.float_ops})
        raise QuantizeError(
            f"none of the model's {len(quantized.float_ops)} ops can be INT8 "
            f"({'; '.join(reasons[:5]) or 'it has none'})",
            hint="Serve the float model: there is nothing to gain from a build.",
        )
    return quantized


def _scores(
    work: _Work, forms: Mapping[str, Model], tick: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Return each INT8 form's fidelity to float; nothing where the samples are gone."""
    threads = work.options.threads
    (reference, *opened), logits = before_softmax([work.model, *forms.values()])
    with contextlib.ExitStack() as engines:

        def load(model: Model, kind: EngineKind) -> Engine:
            engine = CpuEngine(model.to_bytes(), kind, threads=threads)
            return engines.enter_context(contextlib.closing(engine))

        candidates = {n: load(m, "cpu-int8") for n, m in zip(forms, opened, strict=True)}
        samples = only(work.source, work.split.select)
        infer = load(reference, "float").infer
        return rank(infer, candidates, samples, tick, logits)


@dataclass(frozen=True)
class _Gated:
    made: _Made
    engine: Engine
    verdict: Verdict
    inputs: list[Inputs]  # of some of the held-out samples


def _pass_gate(
    work: _Work, made: _Made, reference: Engine, backend: Backend, engines: contextlib.ExitStack
) -> _Gated:
    """Return what the gate lets pass: the model as it is, or with the ops float that cost most."""

    def verified(made: _Made) -> _Gated:
        work.stages.begin("engine")
        with contextlib.ExitStack() as own:
            engine = backend.load(made.int8, work.options.threads)
            own.enter_context(contextlib.closing(engine))
            gated = _Gated(made, engine, *_verify(work, reference, engine))
            if gated.verdict.passed:
                engines.push(own.pop_all())
        return gated

    gated = verified(made)
    if gated.verdict.passed:
        return gated
    for mixed in _mixed(work, made, reference, backend):
        second = verified(mixed)
        if second.verdict.passed:
            return second
    work.keep("verdict.json", gated.verdict.to_json())
    raise GateError(
        f"the INT8 engine was refused: {'; '.join(gated.verdict.reasons)}",
        hint="Add samples like those in the field, or try another --method.",
        verdict=gated.verdict.as_dict(),
    )


def _mixed(work: _Work, made: _Made, reference: Engine, backend: Backend) -> Iterator[_Made]:
    """Search on the samples that chose the method: the held-out ones judge what comes of it."""
    table, options, select = made.table, work.options, work.split.select
    if table is None or not options.mixed_precision:
        return
    work.stages.begin("sensitivity")
    search = MixedSearch(
        model=work.model,
        table=table,
        samples=lambda: only(work.source, select),
        reference=reference.infer,
        make=lambda float_ops: _with_float_ops(work, made, table, float_ops),
        load=backend.load,
        gate=options.verify,
        threads=options.threads,
    )
    for found in mixed_models(search, work.stages.tick):
        yield replace(made, int8=found.model.to_bytes(), float_ops=found.float_ops)


def _with_float_ops(
    work: _Work, made: _Made, table: CalibrationTable, float_ops: frozenset[int]
) -> Quantized:
    """Return the model with these ops float, refined if the model without is."""
    quantized = quantize(work.model, table, float_ops=float_ops)
    corrected = _corrected(work, made, quantized.model) if made.refined else None
    return quantized if corrected is None else replace(quantized, model=corrected)


def _verify(work: _Work, reference: Engine, engine: Engine) -> tuple[Verdict, list[Inputs]]:
    """Judge the engine; return the verdict and the inputs of some of the held-out samples."""
    work.stages.begin("verify", len(work.split.held_out))
    kept: dict[str, Inputs] = {}
    held_out = only(work.source, work.split.held_out)
    samples = _remember(held_out, kept, max(LATENCY_INPUTS, work.options.golden))
    verdict = verify(reference.infer, engine, samples, work.options.verify, work.stages.tick)
    work.keep("verdict.json", verdict.to_json())
    return verdict, [kept[i] for i in sorted(kept)]


def _remember(samples: Iterator[Sample], kept: dict[str, Inputs], most: int) -> Iterator[Sample]:
    """Pass the samples on, keeping the inputs of those with the least ids: the same each time."""
    for sample in samples:
        kept[sample.id] = sample.inputs
        if len(kept) > most:
            del kept[max(kept)]
        yield sample


def _golden(engine: Engine, inputs: list[Inputs]) -> Golden:
    return Golden(tuple(inputs), tuple(engine.infer(given) for given in inputs))


def _drift_reference(work: _Work, live: SampleSource | None) -> bytes:
    """Every one of these samples is a frame that is not drift."""
    source = live or (lambda: only(work.source, work.split.all))
    return DriftReference.from_frames(lambda: (sample.inputs for sample in source())).to_npz()


def _write(
    work: _Work,
    out: Path,
    made: _Made,
    verdict: Verdict,
    golden: Golden,
    drift: bytes,
    backend: str,
) -> Bundle:
    files = {
        "float.tflite": work.content,
        "int8.tflite": made.int8,
        "verdict.json": verdict.to_json(),
        "golden.npz": golden.to_npz(),
        "drift.npz": drift,
    }
    if made.table is not None:
        files["calibration.json"] = made.table.to_json()
        files["calibration.npz"] = made.histograms
    bundle = write_bundle(out, files, _manifest(work, made, backend))
    for name, content in files.items():
        work.keep(name, content)
    return bundle


def _manifest(work: _Work, made: _Made, backend: str) -> Manifest:
    return Manifest(
        name=work.options.name,
        engine=f"{backend}-int8",
        backend=backend,
        method=made.method,
        model_sha256=sha256_bytes(work.content),
        samples=made.table.samples if made.table else 0,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        created=time.time(),
        float_ops=tuple(asdict(op) for op in made.float_ops),
        refined=made.refined,
    )
