"""A model, a person's samples and labelled data -> a Case: what every tool is given alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.cli.inputs import SampleFolder, sidecar_of
from edgeq.samples.decode import load_file
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner, TensorSpec
from edgeq.tflite.schema import schema
from tools.calibration_bench.scoring import Run, Score, is_scores, top1

Array = npt.NDArray[Any]

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_MODELS = ("digits", "digits_v2")
OWN_CALIBRATION = 64
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}


class Evaluation(Protocol):
    """Labelled data and its metric."""

    @property
    def has_classes(self) -> bool:
        """Whether an output that is one vector holds the scores of classes."""
        ...

    def score(self, run: Run) -> Score | None:
        """Run every frame, always in the same order; None where there are no labels."""
        ...


@dataclass(frozen=True)
class Case:
    """One model, the folder of samples to calibrate with, and what to score on."""

    name: str
    model: Path
    samples: Path
    evaluation: Evaluation


@dataclass(frozen=True)
class LabelledFile:
    """An .npz as `edgeq eval --data` takes it: the inputs and, if there are labels, y [N]."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    has_classes: bool

    def score(self, run: Run) -> Score | None:
        """Score the first output's top class."""
        answers = []
        for sample in load_file(self.path, self.inputs):
            outputs = run([sample.inputs[spec.name] for spec in self.inputs])
            answers.append(int(outputs[0].argmax()))
        with np.load(self.path) as archive:
            labels = archive["y"].reshape(-1) if "y" in archive.files else None
        if labels is None or not self.has_classes or len(labels) != len(answers):
            return None
        return top1(labels, np.array(answers))


def case_of_files(name: str, model: Path, samples: Path, data: Path, folder: Path) -> Case:
    """Return the case of a model with a folder (or one .npy, .npz) of samples and labelled data."""
    runner = Runner(model.read_bytes())
    classes = is_scores(runner.outputs[0].shape)
    if samples.is_file():
        linked = folder / f"{name}.samples"
        linked.mkdir(exist_ok=True)
        (linked / samples.name).symlink_to(samples.resolve())
        samples = linked
    evaluation = LabelledFile(data.resolve(), runner.inputs, classes)
    return Case(name, model.resolve(), samples.resolve(), evaluation)


def own_cases(folder: Path) -> list[Case]:
    """Return the repository's small models, on images that they were not trained on."""
    data = REPOSITORY / "tests/data"
    with np.load(data / "digits_samples.npz") as archive:
        x, y = archive["x"].astype(np.float32), archive["y"]
    samples, labelled = folder / "digits.npy", folder / "digits.npz"
    np.save(samples, x[:OWN_CALIBRATION])
    np.savez(labelled, x=x[OWN_CALIBRATION:], y=y[OWN_CALIBRATION:])
    return [
        case_of_files(name, data / f"{name}.tflite", samples, labelled, folder)
        for name in OWN_MODELS
    ]


def write_samples(case: Case, folder: Path) -> list[Path]:
    """Write the calibration samples as the peers take them: one [N, *shape] for each input."""
    content = case.model.read_bytes()
    source = SampleFolder(content, case.samples, sidecar_of(case.model))
    names = [spec.name for spec in Runner(content).inputs]
    columns = list(zip(*([s.inputs[name] for name in names] for s in source()), strict=True))
    return _saved(columns, folder, "calibration")


def write_evaluation(frames: Iterable[Sequence[Array]], folder: Path) -> list[Path]:
    """Write the evaluation's inputs in the same form."""
    return _saved(list(zip(*frames, strict=True)), folder, "evaluation")


def _saved(columns: Sequence[Sequence[Array]], folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}{number}.npy" for number in range(len(columns))]
    for path, column in zip(paths, columns, strict=True):
        np.save(path, np.stack(column))
    return paths


class TfliteRun:
    """A .tflite as `Run`: float32 in and out, also where the file itself takes INT8."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        model, self._runner = Model.from_bytes(content), Runner(content, threads=threads)
        self._inputs = [_affine(model, index) for index in model.inputs]
        self._outputs = [_affine(model, index) for index in model.outputs]

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one frame."""
        specs = self._runner.inputs
        given = zip(specs, inputs, self._inputs, strict=True)
        fed = {spec.name: _quantized(value, spec, affine) for spec, value, affine in given}
        outputs = self._runner.run(fed).values()
        return [_real(v, affine) for v, affine in zip(outputs, self._outputs, strict=True)]


def count_ops(model: Model) -> dict[str, int]:
    """Return how many ops have weights, and how many of them work on float data."""
    weighted = [op for op in model.operators if model.op_name(op) in WEIGHTED]
    data = [model.tensors[op.inputs[2 if model.op_name(op) == "TRANSPOSE_CONV" else 0]]
            for op in weighted]  # fmt: skip
    in_float = sum(tensor.type == schema.TensorType.FLOAT32 for tensor in data)
    return {"weighted_ops": len(weighted), "float_ops": in_float}


Affine = tuple[float, int]  # scale, zero point


def _affine(model: Model, index: int) -> Affine | None:
    quantization = model.tensors[index].quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def _quantized(value: Array, spec: TensorSpec, affine: Affine | None) -> Array:
    if affine is None or spec.dtype.kind != "i":
        return value.astype(spec.dtype)
    bounds = np.iinfo(spec.dtype)
    levels: Array = np.clip(np.rint(value / affine[0]) + affine[1], bounds.min, bounds.max)
    return levels.astype(spec.dtype)


def _real(value: Array, affine: Affine | None) -> Array:
    if affine is None or value.dtype.kind not in "iu":
        return value
    real: Array = (value.astype(np.float32) - affine[1]) * np.float32(affine[0])
    return real


def replayed(outputs: Sequence[Array]) -> Run:
    """Return the `Run` of outputs that were computed elsewhere, [N, ...] each, in their order."""
    rows = iter(range(len(outputs[0])))

    def run(_inputs: Sequence[Array]) -> list[Array]:
        row = next(rows)
        return [output[row] for output in outputs]

    return run
