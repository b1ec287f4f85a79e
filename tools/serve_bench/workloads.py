"""A model and its data -> a workload: the INT8 file, the inputs, the answers expected of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.intake.probe import examine
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from tools.serve_bench.identity import SHAPE, identity_model

Array = npt.NDArray[Any]

INPUTS = 16  # different ones, sent in turn
DATATYPES = {"float32": "FP32", "int8": "INT8", "uint8": "UINT8"}
BUILD_SAMPLES = 128
BUILD_LIMIT_S = 600


@dataclass(frozen=True)
class Workload:
    """One model with one input and one output; written to a file for the clients' processes."""

    name: str
    model: Path
    input_name: str
    output_name: str
    inputs: Array  # [N, *shape]
    outputs: Array  # [N, *shape], what LiteRT answers

    @property
    def datatype(self) -> str:
        return DATATYPES[str(self.inputs.dtype)]

    @property
    def shape(self) -> list[int]:
        return list(self.inputs.shape[1:])

    @property
    def output_shape(self) -> list[int]:
        return list(self.outputs.shape[1:])

    def write(self, path: Path) -> Path:
        """Write everything but the model's file."""
        names = np.array([self.name, str(self.model), self.input_name, self.output_name])
        np.savez(path, names=names, inputs=self.inputs, outputs=self.outputs)
        return path

    @classmethod
    def read(cls, path: Path) -> Workload:
        with np.load(path) as archive:
            name, model, *tensors = map(str, archive["names"])
            return cls(name, Path(model), *tensors, archive["inputs"], archive["outputs"])


def identity_workload(folder: Path, seed: int = 0) -> Workload:
    """Return random bytes through the identity."""
    path = folder / "identity.tflite"
    path.write_bytes(identity_model())
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 256, (INPUTS, *SHAPE), np.uint8)
    return Workload("identity", path, "x", "y", values, values)


def model_workload(name: str, model: Path, data: Path, divide: float, folder: Path) -> Workload:
    """Return a real model as INT8, built by `edgeq build` first where it is a float one.

    `data` holds `x`, [N, ...] or [N, 1, ...]; divided by `divide` it is what the float model takes.
    """
    with np.load(data) as archive:
        values = archive["x"].astype(np.float32) / np.float32(divide)
    if not examine(model.read_bytes())["quantized"]:
        model = _built(name, model, values[:BUILD_SAMPLES], folder)
    return _workload(name, model, values)


def _built(name: str, model: Path, samples: Array, folder: Path) -> Path:
    shape = Runner(model.read_bytes()).inputs[0].shape
    given, out = folder / f"{name}-samples", folder / f"{name}-bundle"
    given.mkdir()
    np.save(given / "samples.npy", samples.reshape(-1, *shape[1:]))
    command = [sys.executable, "-m", "edgeq", "build", str(model), "--samples", str(given),
               "--out", str(out), "--backend", "cpu"]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=BUILD_LIMIT_S)
    return out / "int8.tflite"


def _workload(name: str, path: Path, values: Array) -> Workload:
    content = path.read_bytes()
    runner, model = Runner(content), Model.from_bytes(content)
    spec, output = runner.inputs[0], runner.outputs[0]
    frames = quantized(values[:INPUTS], model, spec.dtype).reshape(-1, *spec.shape)
    answers = np.stack([runner.run({spec.name: frame})[output.name] for frame in frames])
    return Workload(name, path, spec.name, output.name, frames, answers)


def quantized(values: Array, model: Model, dtype: np.dtype[Any]) -> Array:
    """Return float values as the model's first input takes them: as they are, or as integers."""
    if dtype.kind == "f":
        return values.astype(dtype)
    parameters = model.tensors[int(model.graph.inputs[0])].quantization
    scale, zero_point = float(parameters.scale[0]), int(parameters.zeroPoint[0])
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(dtype)
