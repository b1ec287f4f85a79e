"""Float .tflite + samples -> a verified bundle: the whole pipeline on one screen.

This is `edgeq build`. The daemon runs the same command as a niced child and reads its progress as
JSON lines, so that a crash in here costs one build and never the served model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import edgeq
from edgeq.bundle import Bundle, Golden, Manifest, write_bundle
from edgeq.calibrate.collect import Collection, collect
from edgeq.calibrate.table import CalibrationTable, histograms_to_npz
from edgeq.engines import latency
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import choose_backend, load_float
from edgeq.errors import CalibrationError, GateError
from edgeq.files import sha256_bytes
from edgeq.observe.drift import DriftReference
from edgeq.quantize.convert import FloatOp, is_quantized, quantize
from edgeq.samples.store import Sample, is_held_out
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import runtime_version
from edgeq.tflite.structure import check_structure
from edgeq.verify import OutputComparison, Verdict, VerifyOptions, verify

SampleSource = Callable[[], Iterator[Sample]]
Progress = Callable[[str, int, int], None]  # stage, done, total (0 where unknown)

AUTO_METHODS = ("entropy", "percentile", "mse", "max")  # in order of preference
SELECTION_SHARE = 0.25  # of the fit samples, used for nothing but the choice of the method
SELECTION_MOST = 32
SELECTION_LEAST_FIT = 8  # with fewer fit samples than this, the choice is made on them


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for."""

    name: str = "model"
    backend: str = "auto"
    method: str = "auto"
    threads: int = 1
    held_out_ratio: float = 0.25
    golden: int = 4
    verify: VerifyOptions = field(default_factory=VerifyOptions)


@dataclass(frozen=True)
class BuildResult:
    """What a build made, in the words of `edgeq build --json`."""

    bundle: Bundle
    backend: str
    method: str
    tensors: int
    samples: int
    dropped: tuple[dict[str, str], ...]
    float_ops: tuple[FloatOp, ...]
    verdict: Verdict
    latency: tuple[latency.Latency, ...]
    stages: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "bundle": str(self.bundle.directory),
            "backend": self.backend,
            "method": self.method,
            "tensors": self.tensors,
            "samples": self.samples,
            "dropped": list(self.dropped),
            "float_ops": [asdict(op) for op in self.float_ops],
            "verdict": self.verdict.as_dict(),
            "latency": [asdict(figure) for figure in self.latency],
            "stages": dict(self.stages),
        }


@dataclass(frozen=True)
class Split:
    """Sample ids by what they are for; the sets are disjoint unless samples are very few."""

    fit: frozenset[str]
    select: frozenset[str]
    held_out: frozenset[str]


class Stages:
    """Names the running stage to `progress` and keeps how long each took."""

    def __init__(self, progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._name = ""
        self._total = 0
        self._started = 0.0

    def begin(self, name: str, total: int = 0) -> None:
        """End the running stage and start the next."""
        self.end()
        self._name, self._total, self._started = name, total, time.perf_counter()
        self.tick(0)

    def end(self) -> None:
        """End the running stage."""
        if self._name:
            self.seconds[self._name] = round(time.perf_counter() - self._started, 4)
        self._name = ""

    def tick(self, done: int) -> None:
        """Report `done` of the stage's total."""
        if self._progress is not None:
            self._progress(self._name, done, self._total)


def build(
    content: bytes,
    source: SampleSource,
    out: Path,
    options: BuildOptions,
    progress: Progress | None = None,
    live: SampleSource | None = None,
) -> BuildResult:
    """Calibrate, quantize, verify and write the bundle `out`.

    Args:
        content: the float .tflite (or one that is already INT8: then its own scales are kept).
        source: gives the samples anew at each call.
        out: the bundle folder to make; must not exist.
        options: method, backend, gate.
        progress: told the stage, how much is done and of how much.
        live: samples of what the inputs look like now, which drift is measured against; None
            takes all of `source`.

    Raises:
        ModelError, SampleError, CalibrationError, QuantizeError, EngineError: the stage failed.
        GateError: the engine does not agree with the float model; nothing is written.
    """
    stages = Stages(progress)
    stages.begin("read")
    model = Model.from_bytes(content)
    check_structure(model)
    backend = choose_backend(options.backend)
    split = split_samples(source, options.held_out_ratio)
    reference = _reference(model, content, options.threads)
    made = _quantize(model, content, source, split, options, stages)
    stages.begin("engine")
    engine = backend.load(made.int8, options.threads)
    stages.begin("verify", len(split.held_out))
    held_out = list(_only(source, split.held_out))
    verdict = verify(reference.infer, engine, held_out, options.verify, stages.tick)
    if not verdict.passed:
        raise GateError(
            f"the INT8 engine was refused: {'; '.join(verdict.reasons)}",
            hint="Add samples like those in the field, or try another --method.",
        )
    stages.begin("latency")
    timed = latency.measure([reference, engine], [s.inputs for s in held_out[:4]])
    stages.begin("bundle")
    files = _files(content, made, verdict, _golden(engine, held_out[: options.golden]))
    files["drift.npz"] = _drift_reference(live or source)
    bundle = write_bundle(
        out, files, _manifest(model, content, made, engine, backend.name, options)
    )
    stages.end()
    return BuildResult(
        bundle=bundle,
        backend=backend.name,
        method=made.method,
        tensors=len(made.table.tensors) if made.table else 0,
        samples=len(split.fit | split.select | split.held_out),
        dropped=made.dropped,
        float_ops=made.float_ops,
        verdict=verdict,
        latency=tuple(timed),
        stages=stages.seconds,
    )


def split_samples(source: SampleSource, held_out_ratio: float) -> Split:
    """Divide the samples by a hash of their content, so that each set is the same every time.

    Raises:
        CalibrationError: there are fewer than two samples.
    """
    ids = sorted({sample.id for sample in source()})
    if len(ids) < 2:
        raise CalibrationError(
            f"there are {len(ids)} samples; a build needs two or more, one of them held out",
            hint="Add samples with --samples, or let the daemon capture some from live requests.",
        )
    held_out = [i for i in ids if is_held_out(i, held_out_ratio)] or ids[:1]
    rest = [i for i in ids if i not in set(held_out)] or held_out[1:]
    held_out = [i for i in held_out if i not in set(rest)]
    # The id's other half: independent of the first, which chose what is held out.
    select = [i for i in rest if is_held_out(i[::-1], SELECTION_SHARE)][:SELECTION_MOST]
    if len(rest) < SELECTION_LEAST_FIT or not select:
        return Split(frozenset(rest), frozenset(rest[:SELECTION_MOST]), frozenset(held_out))
    return Split(frozenset(rest) - set(select), frozenset(select), frozenset(held_out))


def calibration_table(
    model: Model, content: bytes, collection: Collection, method: str
) -> CalibrationTable:
    """Return the ranges that `method` chooses from the histograms."""
    return CalibrationTable.from_histograms(
        sha256_bytes(content), method, collection.samples, collection.histograms
    )


@dataclass(frozen=True)
class _Made:
    int8: bytes
    table: CalibrationTable | None  # None where the model arrived quantized
    collection: Collection | None
    method: str
    candidates: Mapping[str, float]  # method -> SQNR in dB on the selection samples
    float_ops: tuple[FloatOp, ...]
    dropped: tuple[dict[str, str], ...]


def _reference(model: Model, content: bytes, threads: int) -> Engine:
    """Float, or for a model that arrived INT8 the runtime's own reference kernels."""
    if is_quantized(model):
        return CpuEngine(content, "cpu-int8", threads=threads, delegate=False)
    return load_float(content, threads=threads)


def _quantize(
    model: Model,
    content: bytes,
    source: SampleSource,
    split: Split,
    options: BuildOptions,
    stages: Stages,
) -> _Made:
    if is_quantized(model):
        return _Made(content, None, None, "as-is", {}, (), ())
    stages.begin("calibrate", len(split.fit))
    collection = collect(
        model, _only(source, split.fit), threads=options.threads, progress=stages.tick
    )
    stages.begin("quantize")
    methods = AUTO_METHODS if options.method == "auto" else (options.method,)
    tables = {m: calibration_table(model, content, collection, m) for m in methods}
    quantized = {m: quantize(model, table) for m, table in tables.items()}
    contents = {m: q.model.to_bytes() for m, q in quantized.items()}
    stages.begin("select", len(contents))
    scores = _select(content, contents, source, split, options.threads) if len(methods) > 1 else {}
    best = max(scores, key=lambda m: scores[m]) if scores else methods[0]
    return _Made(
        int8=contents[best],
        table=tables[best],
        collection=collection,
        method=best,
        candidates=scores,
        float_ops=quantized[best].float_ops,
        dropped=tuple({"id": d.id, "reason": d.reason} for d in collection.dropped),
    )


def _select(
    content: bytes,
    candidates: Mapping[str, bytes],
    source: SampleSource,
    split: Split,
    threads: int,
) -> dict[str, float]:
    """Return each candidate's worst output SQNR against float; the first of equals wins."""
    reference = load_float(content, threads=threads)
    samples = list(_only(source, split.select))
    expected = [reference.infer(sample.inputs) for sample in samples]
    scores = {}
    for method, int8 in candidates.items():
        engine = CpuEngine(int8, "cpu-int8", threads=threads)
        comparisons = [OutputComparison(spec.name, "regression") for spec in engine.outputs]
        for sample, wanted in zip(samples, expected, strict=True):
            given = engine.infer(sample.inputs)
            for comparison in comparisons:
                comparison.add(wanted[comparison.name], given[comparison.name])
        scores[method] = round(min(c.fidelity().sqnr_db for c in comparisons), 3)
        engine.close()
    return scores


def _only(source: SampleSource, ids: frozenset[str]) -> Iterator[Sample]:
    return (sample for sample in source() if sample.id in ids)


def _golden(engine: Engine, samples: list[Sample]) -> Golden:
    inputs = tuple(sample.inputs for sample in samples)
    return Golden(inputs, tuple(engine.infer(given) for given in inputs))


def _drift_reference(source: SampleSource) -> bytes:
    """Every one of these samples is a frame that is not drift."""
    frames = (sample.inputs for sample in source())
    finite = (f for f in frames if all(np.isfinite(values).all() for values in f.values()))
    return DriftReference.from_frames(finite).to_npz()


def _files(content: bytes, made: _Made, verdict: Verdict, golden: Golden) -> dict[str, bytes]:
    files = {
        "float.tflite": content,
        "int8.tflite": made.int8,
        "verdict.json": verdict.to_json(),
        "golden.npz": golden.to_npz(),
    }
    if made.table is not None and made.collection is not None:
        files["calibration.json"] = made.table.to_json()
        files["calibration.npz"] = histograms_to_npz(made.collection.histograms)
    return files


def _manifest(
    model: Model, content: bytes, made: _Made, engine: Engine, backend: str, options: BuildOptions
) -> Manifest:
    return Manifest(
        name=options.name,
        engine=engine.kind,
        backend=backend,
        method=made.method,
        model_sha256=sha256_bytes(content),
        samples=made.collection.samples if made.collection else 0,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        created=time.time(),
        float_ops=tuple(asdict(op) for op in made.float_ops),
    )
