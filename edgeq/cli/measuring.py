"""eval, bench: how good and how fast a bundle or model is on this box."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Bundle
from edgeq.cli.arguments import Subparsers, add_command, add_json, existing_file
from edgeq.cli.output import print_json, print_table
from edgeq.config import Sidecar, read_sidecar
from edgeq.engines import latency
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import choose_backend, load_float
from edgeq.errors import SampleError, UsageError
from edgeq.quantize.convert import is_quantized
from edgeq.samples.decode import load_file
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import TensorSpec
from edgeq.verify import OutputComparison

Array = npt.NDArray[Any]
BENCH_SECONDS = 5.0
BENCH_INPUTS = 4


def register(commands: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        commands, "eval", run_eval,
        help="labelled data -> accuracy of float and INT8, and how far they are apart",
        example="edgeq eval face.bundle --data test.npz",
    )  # fmt: skip
    parser.add_argument("target", type=Path, metavar="BUNDLE|MODEL")
    parser.add_argument("--data", type=Path, required=True, help=".npz with x [N,...] and y [N]")
    parser.add_argument("--engine", choices=("float", "int8", "both"), default="both")
    add_json(parser)

    parser = add_command(
        commands, "bench", run_bench,
        help="latency of float and INT8 on this box, in turns",
        example="edgeq bench face.bundle --threads 2",
    )  # fmt: skip
    parser.add_argument("target", type=Path, metavar="BUNDLE|MODEL")
    parser.add_argument("--engine", choices=("float", "int8", "both"), default="both")
    parser.add_argument("--threads", type=int, default=1)
    add_json(parser)


def _engines(target: Path, wanted: str, threads: int) -> dict[str, Engine]:
    """Load what the target holds: 'float', 'int8' or both."""
    engines: dict[str, Engine] = {}
    if target.is_dir():
        bundle = Bundle.open(target)
        if wanted != "int8":
            engines["float"] = load_float(bundle.read("float.tflite"), threads=threads)
        if wanted != "float" and bundle.has("int8.tflite"):
            backend = choose_backend(bundle.manifest.backend)
            engines["int8"] = backend.load(bundle.read("int8.tflite"), threads)
    else:
        content = existing_file(target).read_bytes()
        if is_quantized(Model.from_bytes(content)):
            engines["int8"] = CpuEngine(content, "cpu-int8", threads=threads)
        else:
            engines["float"] = load_float(content, threads=threads)
    missing = {wanted} - {"both"} - set(engines)
    if missing:
        raise UsageError(
            f"{target} holds no {wanted} model",
            hint="Name a bundle made by `edgeq build`, or another --engine.",
        )
    return engines


# ---- eval


def run_eval(options: argparse.Namespace) -> int:
    """`edgeq eval`."""
    engines = _engines(options.target, options.engine, threads=1)
    first = next(iter(engines.values()))
    labels = _labels(existing_file(options.data))
    preprocessing = _sidecar_of(options.target).preprocessing.options
    samples = (s.inputs for s in load_file(options.data, first.inputs, preprocessing))
    result = _evaluate(engines, samples, labels)
    if options.json:
        print_json(result)
    else:
        rows = [(key, value) for key, value in result.items() if key != "outputs"]
        print_table(("figure", "value"), rows)
    return 0


def _labels(path: Path) -> Array | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            labels: Array | None = arrays.get("y")
            return labels
    except ValueError as error:
        raise SampleError(f"{path} is not an .npz of plain arrays: {error}") from error


def _sidecar_of(target: Path) -> Sidecar:
    path = target.with_suffix(".yaml")
    return read_sidecar(path) if path.is_file() else Sidecar()


def _evaluate(
    engines: Mapping[str, Engine], samples: Iterator[dict[str, Array]], labels: Array | None
) -> dict[str, Any]:
    specs: tuple[TensorSpec, ...] = next(iter(engines.values())).outputs
    is_classifier = labels is not None and len(specs) == 1
    task = "classification" if is_classifier else "auto"
    comparisons = [OutputComparison(spec.name, task) for spec in specs]  # type: ignore[arg-type]
    correct = dict.fromkeys(engines, 0)
    count = 0
    for inputs in samples:
        answers = {name: engine.infer(inputs) for name, engine in engines.items()}
        if labels is not None and is_classifier:
            label = _label(labels, count)
            for name, outputs in answers.items():
                correct[name] += int(outputs[specs[0].name].argmax()) == label
        if len(answers) == 2:
            for comparison in comparisons:
                comparison.add(answers["float"][comparison.name], answers["int8"][comparison.name])
        count += 1
    top1 = {f"top1_{name}": correct[name] / max(count, 1) for name in engines if is_classifier}
    return {"samples": count, **top1, **(_fidelity(comparisons) if len(engines) == 2 else {})}


def _label(labels: Array, position: int) -> int:
    if position >= len(labels):
        raise SampleError(f"there are {len(labels)} labels in y for more samples in x")
    return int(labels[position])


def _fidelity(comparisons: list[OutputComparison]) -> dict[str, Any]:
    outputs = [comparison.fidelity() for comparison in comparisons]
    agreements = [o.agreement for o in outputs if o.agreement is not None]
    return {
        "agreement": min(agreements, default=None),
        "sqnr_db": min(o.sqnr_db for o in outputs),
        "cosine": min(o.cosine for o in outputs),
        "outputs": [asdict(output) for output in outputs],
    }


# ---- bench


def run_bench(options: argparse.Namespace) -> int:
    """`edgeq bench`."""
    engines = _engines(options.target, options.engine, options.threads)
    inputs = _random_inputs(next(iter(engines.values())).inputs)
    figures = latency.measure(
        list(engines.values()), inputs, budget_s=BENCH_SECONDS, runs=1_000_000
    )
    by_name = dict(zip(engines, figures, strict=True))
    result: dict[str, Any] = {name: asdict(figure) for name, figure in by_name.items()}
    result["threads"] = options.threads
    if len(by_name) == 2:
        result["ratio"] = round(by_name["int8"].p50_ms / by_name["float"].p50_ms, 4)
    if options.json:
        print_json(result)
        return 0
    rows = [
        (name, f"{f.p50_ms:.3f}", f"{f.p90_ms:.3f}", f"{f.p99_ms:.3f}", f.runs)
        for name, f in by_name.items()
    ]
    print_table(("engine", "p50 ms", "p90 ms", "p99 ms", "runs"), rows)
    with contextlib.suppress(KeyError):
        print(f"INT8 takes {result['ratio']:.2f} of float's time")
    return 0


def _random_inputs(specs: tuple[TensorSpec, ...]) -> list[dict[str, Array]]:
    draw = np.random.default_rng(0)
    return [
        {s.name: draw.random([max(1, e) for e in s.shape]).astype(s.dtype) for s in specs}
        for _ in range(BENCH_INPUTS)
    ]
