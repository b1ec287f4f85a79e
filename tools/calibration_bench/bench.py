"""A case and the peers -> rows: what each made of the same model and samples, and at what cost."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.tflite.model import Model
from tools.calibration_bench.cases import (
    Array,
    Case,
    TfliteRun,
    count_ops,
    replayed,
    write_evaluation,
    write_samples,
)
from tools.calibration_bench.children import Child
from tools.calibration_bench.environments import MissingEnvironment, python_of
from tools.calibration_bench.peers import CALIBRATE_ONLY, Peer
from tools.calibration_bench.scoring import Comparison, Run, Score, standard_error

CONVERTER = "tensorflow"
LEAST_CONVERTED_DB = 60.0  # a converted model that is further from the .tflite is another model


@dataclass(frozen=True)
class Row:
    """One line of the table; figures that there are not are None."""

    model: str
    tool: str
    setting: str
    status: str
    reason: str = ""
    seconds: float | None = None
    cpu_s: float | None = None
    peak_rss_mib: float | None = None
    above_mib: float | None = None
    bytes: int | None = None
    weighted_ops: int | None = None  # convolutions, fully connected
    float_ops: int | None = None  # of these, how many the tool left in float
    agreement: float | None = None
    sqnr_db: float | None = None
    metric: str = ""
    value: float | None = None
    delta: float | None = None  # of the metric, to the float model
    delta_se: float | None = None  # paired bootstrap
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What holds for the whole run."""

    environments: Path
    threads: int
    limit_s: float
    resamples: int
    keep: Path | None


@dataclass(frozen=True)
class Reference:
    """The float model on the evaluation's data."""

    inputs: list[Path]
    outputs: list[Array]  # [N, ...] each
    score: Score | None


@dataclass(frozen=True)
class _Bench:
    case: Case
    options: Options
    child: Child
    calibration: list[Path]
    reference: Reference

    @property
    def folder(self) -> Path:
        return self.child.folder


def bench(case: Case, peers: Sequence[Peer], options: Options, work: Path) -> Iterator[Row]:
    """Yield the float model's row, then one for each peer and setting; nothing here is fatal."""
    folder = work / case.name
    folder.mkdir()
    child = Child(folder, options.threads, options.limit_s)
    reference = _run_float(case, folder)
    state = _Bench(case, options, child, write_samples(case, folder), reference)
    yield _float_row(case, reference)
    forms: dict[str, Path | str] = {"tflite": case.model}
    if any(peer.form == "onnx" for peer in peers):
        forms["onnx"] = _convert(state)
    for peer in peers:
        for setting in peer.settings:
            print(f"{case.name}: {peer.name} {setting}", file=sys.stderr)
            model = forms[peer.form]
            if isinstance(model, str):
                yield Row(case.name, peer.name, setting, "failed", model)
            else:
                yield _row(state, peer, setting, model)


def _run_float(case: Case, folder: Path) -> Reference:
    model, inputs, outputs = TfliteRun(case.model.read_bytes()), [], []

    def run(frame: Sequence[Array]) -> list[Array]:
        inputs.append([np.asarray(value, np.float32) for value in frame])
        outputs.append(model(frame))
        return outputs[-1]

    score = case.evaluation.score(run)
    columns = [np.stack(column) for column in zip(*outputs, strict=True)]
    return Reference(write_evaluation(inputs, folder), columns, score)


def _float_row(case: Case, reference: Reference) -> Row:
    row = Row(case.name, "float", "", "ok", bytes=case.model.stat().st_size)
    if reference.score is None:
        return row
    return replace(row, metric=reference.score.metric, value=reference.score.value)


def _row(state: _Bench, peer: Peer, setting: str, model: Path) -> Row:
    """Let one tool work and score what it made."""
    row = Row(state.case.name, peer.name, setting, "no environment")
    try:
        python = _python(peer, state.options)
    except MissingEnvironment as error:
        return replace(row, reason=str(error))
    out = state.folder / f"{peer.stem(setting)}.{peer.form}"
    report = state.child.run(
        python, peer.script, model, state.calibration, out,
        setting=setting, folder=state.case.samples,
    )  # fmt: skip
    row = replace(
        row, status=report.status, reason=report.reason, seconds=report.seconds,
        cpu_s=report.cpu_s, peak_rss_mib=report.peak_rss_mib, above_mib=report.above_mib,
        notes=report.notes, versions=report.versions, details=report.details,
    )  # fmt: skip
    if not report.is_ok or setting == CALIBRATE_ONLY:
        return row
    return _scored(state, replace(row, bytes=out.stat().st_size), python, out)


def _python(peer: Peer, options: Options) -> Path:
    if peer.environment is None:
        return Path(sys.executable)
    return python_of(peer.environment, options.environments)


def _scored(state: _Bench, row: Row, python: Path, made: Path) -> Row:
    """Add how good the file is, and keep it where files are kept."""
    if state.options.keep is not None:
        kept = state.options.keep / state.case.name
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, kept / made.name)
    try:
        run, ops = _runner(state, python, made)
        evaluation = state.case.evaluation
        comparison = Comparison(state.reference.outputs, run, classes=evaluation.has_classes)
        score = evaluation.score(comparison.run)
    except Exception as error:  # noqa: BLE001 - a file that does not run is the tool's result
        return replace(row, status="does not run", reason=str(error).splitlines()[0][:300])
    fidelity, reference = comparison.fidelity(), state.reference.score
    row = replace(
        row, agreement=fidelity.agreement, sqnr_db=fidelity.sqnr_db,
        weighted_ops=ops["weighted_ops"], float_ops=ops["float_ops"],
    )  # fmt: skip
    if row.float_ops and row.float_ops == row.weighted_ops:
        row = replace(row, notes=("left every op with weights in float", *row.notes))
    if score is None or reference is None:
        return row
    return replace(
        row, metric=score.metric, value=score.value, delta=score.value - reference.value,
        delta_se=standard_error(score, reference, state.options.resamples),
    )  # fmt: skip


def _runner(state: _Bench, python: Path, made: Path) -> tuple[Run, dict[str, int]]:
    """Return what runs a file: LiteRT here, onnxruntime in its maker's environment; and its ops."""
    if made.suffix == ".tflite":
        content = made.read_bytes()
        return TfliteRun(content), count_ops(Model.from_bytes(content))
    outputs, ops = _run_onnx(state, python, made)
    return replayed(outputs), ops


def _run_onnx(state: _Bench, python: Path, model: Path) -> tuple[list[Array], dict[str, int]]:
    out = state.folder / f"{model.stem}.outputs"
    report = state.child.run(python, "run_onnx.py", model, state.reference.inputs, out)
    if not report.is_ok:
        raise RuntimeError(report.reason)
    count = len(state.reference.outputs)
    arrays = [np.load(out / f"{number}.npy", mmap_mode="r") for number in range(count)]
    shutil.rmtree(out)  # the disk gives the room back once the arrays are gone
    return arrays, report.details


def _convert(state: _Bench) -> Path | str:
    """Return the float model as .onnx, or why there is none; it must answer as the .tflite."""
    out = state.folder / "float.onnx"
    try:
        python = python_of(CONVERTER, state.options.environments)
    except MissingEnvironment as error:
        return f"no tf2onnx to convert the model: {error}"
    report = state.child.run(python, "onnx_from_tflite.py", state.case.model, [], out)
    if not report.is_ok:
        return f"tf2onnx: {report.reason}"
    return _as_the_original(state, python, out)


def _as_the_original(state: _Bench, python: Path, converted: Path) -> Path | str:
    try:
        outputs, _ = _run_onnx(state, python, converted)
        comparison = Comparison(state.reference.outputs, replayed(outputs))
        for _ in range(len(state.reference.outputs[0])):
            comparison.run([])
    except (RuntimeError, ValueError) as error:
        return f"the .onnx of tf2onnx does not run as the .tflite: {error}"
    found = comparison.fidelity().sqnr_db
    if found < LEAST_CONVERTED_DB:
        return f"the .onnx of tf2onnx is only {found:.1f} dB from the .tflite"
    return converted
