"""eval, bench: how good and how fast a bundle or model is on this box."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.build.forms import AS_IS
from edgeq.bundle import Bundle
from edgeq.cli.arguments import (
    Subparsers,
    add_command,
    add_json,
    count,
    existing_file,
    number,
    read_model,
)
from edgeq.cli.output import print_json, print_table
from edgeq.engines import latency
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import choose_backend, load_float
from edgeq.errors import SampleError, UsageError
from edgeq.quantize.convert import is_quantized
from edgeq.samples import npz
from edgeq.samples.decode import load_file
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import TensorSpec
from edgeq.verify import OutputComparison, Task

Array = npt.NDArray[Any]
BENCH_SECONDS = 5.0
BENCH_RUNS = 1_000_000  # the time is the bound
BENCH_INPUTS = 4


def register(commands: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        commands, "eval", run_eval,
        help="labelled data -> accuracy of float and INT8, and how far they are apart",
        example="edgeq eval face.bundle --data test.npz",
    )  # fmt: skip
    _add_target(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE.npz",
        help="x [N,...] or the inputs by name, as the float model takes them; y [N], the classes",
    )  # fmt: skip
    add_json(parser)

    parser = add_command(
        commands, "bench", run_bench,
        help="latency of float and INT8 on this box, in turns",
        example="edgeq bench face.bundle --threads 2",
    )  # fmt: skip
    _add_target(parser)
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: 1)")
    parser.add_argument(
        "--seconds", type=number(0.001, 3600), default=BENCH_SECONDS,
        help=f"how long to measure (default: {BENCH_SECONDS:g})",
    )  # fmt: skip
    add_json(parser)


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, metavar="BUNDLE|MODEL")
    parser.add_argument("--engine", choices=("float", "int8", "both"), default="both")


def _engines(target: Path, wanted: str, threads: int) -> dict[str, Engine]:
    """Load what the target holds of what is wanted: 'float', 'int8' or both."""
    if target.is_dir():
        engines = _engines_of_bundle(Bundle.open(target), wanted, threads)
    else:
        engines = _engine_of_model(read_model(target), wanted, threads)
    if not engines or (wanted != "both" and wanted not in engines):
        raise UsageError(
            f"{target} holds no {wanted} model",
            hint="Name a bundle made by `edgeq build`, or another --engine.",
        )
    return engines


def _engines_of_bundle(bundle: Bundle, wanted: str, threads: int) -> dict[str, Engine]:
    engines: dict[str, Engine] = {}
    # A model that arrived as INT8 has no float form: both files are the same.
    has_float = bundle.has("float.tflite") and bundle.manifest.method != AS_IS
    if wanted != "int8" and has_float:
        engines["float"] = load_float(bundle.read("float.tflite"), threads=threads)
    if wanted != "float" and bundle.has("int8.tflite"):
        backend = choose_backend(bundle.manifest.backend)
        engines["int8"] = backend.load(bundle.read("int8.tflite"), threads, bundle.read_if_there)
    return engines


def _engine_of_model(content: bytes, wanted: str, threads: int) -> dict[str, Engine]:
    kind = "int8" if is_quantized(Model.from_bytes(content)) else "float"
    if wanted not in (kind, "both"):
        return {}
    if kind == "int8":
        return {kind: CpuEngine(content, "cpu-int8", threads=threads)}
    return {kind: load_float(content, threads=threads)}


# ---- eval


def run_eval(options: argparse.Namespace) -> int:
    """`edgeq eval`."""
    data = existing_file(options.data)
    engines = _engines(options.target, options.engine, threads=1)
    first = next(iter(engines.values()))
    samples = (sample.inputs for sample in load_file(data, first.inputs))
    result = _evaluate(engines, samples, _labels(data))
    if options.json:
        print_json(result)
    else:
        rows = [(key, value) for key, value in result.items() if key != "outputs"]
        print_table(("figure", "value"), rows)
    return 0


def _labels(path: Path) -> Array | None:
    """Return y of an .npz: whole numbers [N], or None where there are no such."""
    try:
        with path.open("rb") as stream, npz.open_archive(stream) as archive:
            if "y.npy" not in archive.namelist():
                return None
            labels = npz.open_member(archive, archive.getinfo("y.npy")).read_all()
    except npz.DamagedError as error:
        raise SampleError(
            f"{path.name}: {error}", hint="Write x and y with numpy.savez."
        ) from error
    flat = labels.reshape(-1) if labels.size == len(labels) else labels
    return flat if flat.ndim == 1 and flat.dtype.kind in "iu" else None


class _Tally:
    """Counts right answers of one output, where it has classes and the data has labels."""

    def __init__(self, output: TensorSpec, labels: Array, engines: Iterable[str]) -> None:
        self._output, self._labels = output.name, labels
        self._correct = dict.fromkeys(engines, 0)
        self._seen = 0

    def add(self, answers: Mapping[str, Mapping[str, Array]]) -> None:
        """Compare one sample's answers with its label."""
        if self._seen < len(self._labels):
            for name, outputs in answers.items():
                top = int(outputs[self._output].argmax())
                self._correct[name] += top == int(self._labels[self._seen])
        self._seen += 1

    def ratios(self) -> dict[str, float]:
        """Return `top1_float`, `top1_int8`."""
        if self._seen != len(self._labels):
            raise SampleError(
                f"y holds {len(self._labels)} labels for {self._seen} samples",
                hint="Give one label for each sample.",
            )
        return {f"top1_{name}": right / self._seen for name, right in self._correct.items()}


def _evaluate(
    engines: Mapping[str, Engine], samples: Iterable[dict[str, Array]], labels: Array | None
) -> dict[str, Any]:
    outputs = next(iter(engines.values())).outputs
    tally = None
    if labels is not None and len(outputs) == 1 and _has_classes(outputs[0]):
        tally = _Tally(outputs[0], labels, engines)
    task: Task = "classification" if tally else "auto"
    comparisons = [OutputComparison(spec.name, task) for spec in outputs]
    done = 0
    for inputs in samples:
        answers = {name: engine.infer(inputs) for name, engine in engines.items()}
        if tally:
            tally.add(answers)
        if len(answers) == 2:
            for comparison in comparisons:
                comparison.add(answers["float"][comparison.name], answers["int8"][comparison.name])
        done += 1
    if not done:
        raise SampleError("the data holds no sample", hint="Give an .npz with x [N, ...].")
    top1 = tally.ratios() if tally else {}
    return {"samples": done, **top1, **(_fidelity(comparisons) if len(engines) == 2 else {})}


def _has_classes(output: TensorSpec) -> bool:
    """True for one vector: [classes] or [1, .., classes]."""
    return bool(output.shape) and math.prod(output.shape) == output.shape[-1] > 1


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
    measured = latency.measure(
        list(engines.values()), inputs, budget_s=options.seconds, runs=BENCH_RUNS
    )
    figures = dict(zip(engines, measured, strict=True))
    ratio = None
    if len(figures) == 2:
        ratio = round(figures["int8"].p50_ms / figures["float"].p50_ms, 4)
    if options.json:
        by_name = {name: asdict(figure) for name, figure in figures.items()}
        print_json({**by_name, "threads": options.threads, "ratio": ratio})
        return 0
    rows = [
        (name, f"{f.p50_ms:.3f}", f"{f.p90_ms:.3f}", f"{f.p99_ms:.3f}", f.runs)
        for name, f in figures.items()
    ]
    print_table(("engine", "p50 ms", "p90 ms", "p99 ms", "runs"), rows)
    if ratio is not None:
        print(f"INT8 takes {ratio:.2f} of float's time")
    return 0


def _random_inputs(specs: tuple[TensorSpec, ...]) -> list[dict[str, Array]]:
    draw = np.random.default_rng(0)
    return [
        {s.name: draw.random([max(1, e) for e in s.shape]).astype(s.dtype) for s in specs}
        for _ in range(BENCH_INPUTS)
    ]
