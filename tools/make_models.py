"""Makes tests/data: two versions of a small digit classifier, and images it was not trained on.

Run from the repository's root, with the development dependencies:

    python -m tools.make_models [--out tests/data]
    python -m tools.make_models --workloads FOLDER [NAME ...]

The second form makes nothing of that, but the benchmarks' nets: ResNet-50, MobileNets, SSD and YOLO
as INT8 files with random weights, 45 MB in all, which nobody needs to commit.

The images are scikit-learn's digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0),
8 x 8 pixels drawn as 16 x 16. The model takes pixels from 0 to 255 as float32: the division by
255 is folded into its first kernel.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.files import sha256_bytes, write_atomic
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests.tiny import GraphBuilder
from tools.numpy_training import (
    RELU6,
    AveragePool,
    Convolution,
    Dense,
    Layer,
    Residual,
    Schedule,
    forward,
    train,
)
from tools.workloads.nets import WORKLOADS
from tools.workloads.quantized import write_workloads

Array = npt.NDArray[Any]

PIXELS = 16
CLASSES = 10
TEST_IMAGES = 360
LEAST_ACCURACY = 0.97
VERSIONS = {"digits.tflite": (1, Schedule(epochs=20)), "digits_v2.tflite": (2, Schedule(epochs=30))}


def load_images() -> tuple[Array, Array]:
    """Return uint8 images [N, 16, 16, 1] and their labels [N], shuffled always alike."""
    from sklearn.datasets import load_digits  # the workloads are made where it may be missing

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels = np.rint(digits.images[order] * (255 / 16)).astype(np.uint8)
    return pixels.repeat(2, 1).repeat(2, 2)[..., None], digits.target[order].astype(np.int64)


def make_network(random: np.random.Generator) -> list[Layer]:
    """MobileNetV2's parts in small: residual blocks of a depthwise and a pointwise convolution."""

    def block(channels: int) -> Residual:
        return Residual(
            Convolution(random, (3, 3, channels), ceiling=RELU6),
            Convolution(random, (1, 1, channels, channels), linear=True),
        )

    return [
        Convolution(random, (3, 3, 1, 16)),
        block(16),
        Convolution(random, (3, 3, 16, 24), stride=2),
        block(24),
        AveragePool(),
        Dense(random, 4 * 4 * 24, CLASSES),
    ]


class Exporter:
    """Writes the layers as TFLite ops, batch norm folded, one after the other."""

    def __init__(self) -> None:
        self.graph = GraphBuilder({"image": (1, PIXELS, PIXELS, 1)})
        self.tensor, self.shape = self.graph.inputs[0], (1, PIXELS, PIXELS, 1)

    def convolution(self, name: str, layer: Convolution, *, scale: float = 1.0) -> None:
        kernel, bias = layer.folded()
        kernel = kernel * np.float32(scale)
        kernel = kernel[None] if layer.is_depthwise else kernel.transpose(3, 0, 1, 2)
        height, width = (-(-extent // layer.stride) for extent in self.shape[1:3])
        self.shape = (1, height, width, len(bias))
        kind = "DepthwiseConv2DOptions" if layer.is_depthwise else "Conv2DOptions"
        extra = {"depthMultiplier": 1} if layer.is_depthwise else {}
        self.tensor = self.graph.op(
            "DEPTHWISE_CONV_2D" if layer.is_depthwise else "CONV_2D",
            [self.tensor, self._constant(f"{name}/kernel", kernel), self._constant(name, bias)],
            (f"{name}/output", self.shape),
            options=kind,
            padding=schema.Padding.SAME,
            strideH=layer.stride,
            strideW=layer.stride,
            dilationHFactor=1,
            dilationWFactor=1,
            fusedActivationFunction=_activation(layer),
            **extra,
        )

    def _constant(self, name: str, values: Array) -> int:
        return self.graph.constant(name, np.ascontiguousarray(values, np.float32))

    def residual(self, name: str, layer: Residual) -> None:
        skipped = self.tensor
        for kind, inner in zip(("depthwise", "pointwise"), layer.layers, strict=True):
            self.convolution(f"{name}/{kind}", inner)
        ends, output = [skipped, self.tensor], (f"{name}/output", self.shape)
        self.tensor = self.graph.op("ADD", ends, output, options="AddOptions")

    def pool(self) -> None:
        self.shape = (1, self.shape[1] // 2, self.shape[2] // 2, self.shape[3])
        self.tensor = self.graph.op(
            "AVERAGE_POOL_2D",
            [self.tensor],
            ("pool", self.shape),
            options="Pool2DOptions",
            padding=schema.Padding.VALID,
            strideH=2,
            strideW=2,
            filterHeight=2,
            filterWidth=2,
        )

    def scores(self, layer: Dense) -> Model:
        flat = np.array([1, int(np.prod(self.shape))], np.int32)
        shape = self.graph.constant("flat/shape", flat, "INT32")
        x = self.graph.op("RESHAPE", [self.tensor, shape], ("flat", tuple(flat)),
                          options="ReshapeOptions", newShape=flat)  # fmt: skip
        kernel = self._constant("dense/kernel", layer.parameters["kernel"].T)
        bias = self._constant("dense/bias", layer.parameters["bias"])
        x = self.graph.op("FULLY_CONNECTED", [x, kernel, bias], ("logits", (1, CLASSES)),
                          options="FullyConnectedOptions")  # fmt: skip
        return self.graph.finish(
            self.graph.op(
                "SOFTMAX", [x], ("scores", (1, CLASSES)), options="SoftmaxOptions", beta=1.0
            )
        )


def _activation(layer: Convolution) -> int:
    kinds = schema.ActivationFunctionType
    if layer.linear:
        return int(kinds.NONE)
    return int(kinds.RELU6 if layer.ceiling == RELU6 else kinds.RELU)


def export(network: list[Layer]) -> Model:
    """Return the trained network as a float model, pixels 0..255 -> probabilities."""
    stem, first, down, second, _, dense = network
    exporter = Exporter()
    exporter.convolution("stem", stem, scale=1 / 255)
    exporter.residual("block1", first)
    exporter.convolution("down", down)
    exporter.residual("block2", second)
    exporter.pool()
    return exporter.scores(dense)


def accuracy(content: bytes, x: Array, y: Array) -> float:
    """Return the top-1 accuracy of the file itself, as the runtime runs it."""
    runner = Runner(content)
    answers = [runner.run({"image": image[None].astype(np.float32)})["scores"] for image in x]
    return float(np.mean(np.argmax(np.concatenate(answers), 1) == y))


def make_version(seed: int, schedule: Schedule, x: Array, y: Array) -> tuple[bytes, dict[str, Any]]:
    """Train and export one version; return the file and its entry in the manifest."""
    random = np.random.default_rng(seed)
    network = make_network(random)
    unit = x[TEST_IMAGES:].astype(np.float32) / 255
    train(network, unit, y[TEST_IMAGES:], schedule, random)
    content = export(network).to_bytes()
    top1 = accuracy(content, x[:TEST_IMAGES], y[:TEST_IMAGES])
    expected = forward(network, x[:TEST_IMAGES].astype(np.float32) / 255).argmax(1)
    trained = float(np.mean(expected == y[:TEST_IMAGES]))
    if top1 < LEAST_ACCURACY or abs(top1 - trained) > 1 / TEST_IMAGES:
        raise SystemExit(f"seed {seed}: the file has {top1:.4f}, the training {trained:.4f}")
    entry = {"seed": seed, "schedule": asdict(schedule), "top1": round(top1, 4)}
    return content, {**entry, "bytes": len(content), "sha256": sha256_bytes(content)}


def make_samples(x: Array, y: Array) -> bytes:
    """Return the test images and labels as .npz: x uint8 [N, 16, 16, 1], y int64 [N]."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=x[:TEST_IMAGES], y=y[:TEST_IMAGES])
    return buffer.getvalue()


def _workload(name: str) -> str:
    """Read a workload's name; `choices` would refuse that there is none, before Python 3.12."""
    known = [workload.name for workload in WORKLOADS]
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is unknown; there are {', '.join(known)}")
    return name


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tests/data"))
    parser.add_argument("--workloads", type=Path, metavar="FOLDER")
    parser.add_argument("only", nargs="*", metavar="NAME", type=_workload)
    options = parser.parse_args(arguments)
    if options.workloads is None:
        make_data(options.out)
        return
    for path in write_workloads(options.workloads, options.only):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def make_data(out: Path) -> None:
    x, y = load_images()
    files, entries = {}, {}
    for name, (seed, schedule) in VERSIONS.items():
        files[name], entries[name] = make_version(seed, schedule, x, y)
        print(f"{name}: {entries[name]['top1']:.2%} of {TEST_IMAGES} test images")
    name = "digits_samples.npz"
    files[name] = make_samples(x, y)
    entries[name] = {"samples": TEST_IMAGES, "sha256": sha256_bytes(files[name])}
    manifest = {
        "made_by": "python -m tools.make_models",
        "images": "scikit-learn digits (UCI Optical Recognition of Handwritten Digits, CC BY 4.0)",
        "numpy": np.__version__,
        "files": entries,
    }
    files["manifest.json"] = json.dumps(manifest, indent=2).encode() + b"\n"
    for name, content in files.items():
        write_atomic(out / name, content, mode=0o644)


if __name__ == "__main__":
    main()
