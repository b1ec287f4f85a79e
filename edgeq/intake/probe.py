"""`python -m edgeq.intake.probe FILE`: the disposable child that opens a drop first.

A damaged or hostile model can crash the runtime's C++ code, loop, or eat all memory; here that
costs a child. One JSON object on stdout is the answer, {"ok": ...} or {"error": ...}; the line
`phase NAME` on stderr says how far it came before it died.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng  # not lazily, once files can no longer be opened

from edgeq.errors import (
    EdgeqError,
    EngineError,
    ModelError,
    StructureError,
    UnsupportedModelError,
)
from edgeq.intake.sandbox import confine
from edgeq.quantize.prepare import is_quantized
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner, TensorSpec, runtime_version
from edgeq.tflite.structure import check_structure

Array = npt.NDArray[Any]

PHASE = "phase "
FREE_EXTENTS = (1, 32, 224)  # tried in turn for inputs whose shape the model leaves open
NUMERIC_KINDS = "biuf"


def main(arguments: Sequence[str]) -> int:
    """Confine this process, examine the file, write the answer; 0 where it is a good model."""
    parser = argparse.ArgumentParser(prog="edgeq.intake.probe", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--memory-bytes", type=int, default=4 << 30)
    parser.add_argument("--cpu-s", type=int, default=60)
    options = parser.parse_args(arguments)
    runtime_version()  # imports the runtime while files may still be opened freely
    measures = confine(options.memory_bytes, options.cpu_s)
    try:
        answer = {"ok": {**examine(options.file), "sandbox": measures}}
    except MemoryError:
        answer = {"error": _memory_error(options.memory_bytes)}
    except EdgeqError as error:
        answer = {"error": _refusal(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if "ok" in answer else 1


def _refusal(error: EdgeqError) -> dict[str, str]:
    is_damaged = isinstance(error, StructureError)
    stage = "structure" if is_damaged else "load" if isinstance(error, ModelError) else "run"
    return {"stage": stage, "message": error.message, "hint": error.hint}


def _memory_error(memory_bytes: int) -> dict[str, str]:
    return {
        "stage": "probe",
        "message": f"the model needs more than {memory_bytes >> 20} MiB of memory",
        "hint": "Use a smaller model, or raise the memory limit of the probe.",
    }


def examine(path: Path) -> dict[str, Any]:
    """Return what is known of a model after its structure was checked, and it was loaded and run.

    Raises:
        StructureError: it is damaged.
        UnsupportedModelError: the runtime here cannot load it.
        EngineError, InvalidRequestError: it loads, but does not run.
    """
    resident = _resident_bytes()
    _phase("structure")
    content = path.read_bytes()
    model = Model.from_bytes(content)
    check_structure(model)
    ops = Counter(model.op_name(operator) for operator in model.operators)
    facts = {"ops": dict(ops), "quantized": is_quantized(model)}
    del model
    _phase("load")
    runner, load_s = _timed(lambda: _load(content, ops))
    _phase("run")
    outputs, run_s = _timed(lambda: _run(runner))
    return {
        **facts,
        "inputs": [_described(spec) for spec in runner.inputs],
        "outputs": [_described(spec) for spec in runner.outputs],
        "finite": all(np.isfinite(v).all() for v in outputs.values() if v.dtype.kind == "f"),
        "memory_bytes": max(len(content), _resident_bytes() - resident),
        "load_s": load_s,
        "run_s": run_s,
    }


def _phase(name: str) -> None:
    sys.stderr.write(f"{PHASE}{name}\n")
    sys.stderr.flush()


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # /proc is not mounted: the peak is the next best
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return pages * resource.getpagesize()


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype.str}


def _load(content: bytes, ops: Counter[str]) -> Runner:
    try:
        runner = Runner(content)
    except EngineError as error:
        raise _explained(error, ops) from error
    for spec in (*runner.inputs, *runner.outputs):
        if spec.dtype.kind not in NUMERIC_KINDS:
            raise UnsupportedModelError(
                f"tensor {spec.name!r} is of type {spec.dtype}; edgeq serves numbers",
                hint="Export the model with numeric inputs and outputs.",
            )
    return runner


def _explained(error: EngineError, ops: Counter[str]) -> UnsupportedModelError:
    """Say which ops are to blame where the runtime's own words do not."""
    custom = sorted(name.removeprefix("CUSTOM:") for name in ops if name.startswith("CUSTOM:"))
    flex = [name for name in custom if name.startswith("Flex")]
    if flex:
        return UnsupportedModelError(
            f"the model needs TensorFlow ops that the TFLite runtime does not have: "
            f"{', '.join(flex)}",
            hint="Convert it again with supported_ops = [TFLITE_BUILTINS] only.",
        )
    if custom and "custom op" in error.message:
        return UnsupportedModelError(
            f"the model needs custom ops that the runtime does not have: {', '.join(custom)}",
            hint="Export the model without them, for instance without post-processing.",
        )
    if not str(error.__cause__):  # what LiteRT does where an allocation fails
        return UnsupportedModelError(
            "the runtime cannot set the model up and does not say why: most often it needs more "
            "memory than there is",
            hint="Use a smaller model, or raise the memory limit of the probe.",
        )
    return UnsupportedModelError(error.message, hint=error.hint)


def _run(runner: Runner) -> dict[str, Array]:
    """Run on zeros, then on small random values; return the latter's outputs."""
    is_free = any(-1 in spec.shape for spec in runner.inputs)
    *attempts, last = FREE_EXTENTS if is_free else (1,)
    for extent in attempts:
        with contextlib.suppress(EngineError):
            return _run_at(runner, extent)
    return _run_at(runner, last)


def _run_at(runner: Runner, extent: int) -> dict[str, Array]:
    runner.run({spec.name: _zeros(spec, extent) for spec in runner.inputs})
    return runner.run({spec.name: _random(spec, extent) for spec in runner.inputs})


def _zeros(spec: TensorSpec, extent: int) -> Array:
    return np.zeros([extent if size == -1 else size for size in spec.shape], spec.dtype)


def _random(spec: TensorSpec, extent: int) -> Array:
    """Return 0 and 1 for integers, which may be indices; [-1, 1) for floats."""
    random, shape = default_rng(0), _zeros(spec, extent).shape
    if spec.dtype.kind == "f":
        values = random.random(shape, np.float32)
        return (values * 2 - 1).astype(spec.dtype)
    return random.integers(0, 2, shape).astype(spec.dtype)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
