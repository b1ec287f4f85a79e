"""`python -m edgeq.intake.probe [FILE]`: the disposable child that opens a drop first.

A damaged or hostile model can crash the runtime's C++ code, loop, eat all memory, or break in; here
that costs a child. One JSON object on stdout is the answer, {"ok": ...} or {"error": ...}; the line
`phase NAME` on stderr says how far it came before it died. Without FILE it examines a model of its
own: what `edgeq doctor` asks.

The order is what makes it safe: import all and use the runtime once, on a model of ours, so that it
has read of the box what it wants to know (/proc/cpuinfo, /sys/devices/system/cpu); limit; read the
file's bytes; confine; only then look at them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from edgeq.intake.sandbox import Measure, confine, lacks, limit
from edgeq.quantize.prepare import is_quantized
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import Runner, TensorSpec
from edgeq.tflite.schema import schema
from edgeq.tflite.structure import check_structure

Array = npt.NDArray[Any]

PHASE = "phase "
FREE_EXTENTS = (1, 32, 224)  # tried in turn for inputs whose shape the model leaves open
NUMERIC_KINDS = "biuf"


def main(arguments: Sequence[str]) -> int:
    """Confine this process, examine the file, write the answer; 0 where it is a good model."""
    parser = argparse.ArgumentParser(prog="edgeq.intake.probe", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--memory-bytes", type=int, default=4 << 30)
    parser.add_argument("--cpu-s", type=int, default=60)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--must-confine", action="store_true")
    options = parser.parse_args(arguments)
    own = own_model()
    warm_up(own)
    limit(options.memory_bytes, options.cpu_s)
    try:
        content = own if options.file is None else options.file.read_bytes()
        with _ResidentMemory() as memory:
            answer = _answer(
                content, memory, confine(options.parent), must_confine=options.must_confine
            )
    except MemoryError:
        answer = {"error": _memory_error(options.memory_bytes)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0 if "ok" in answer else 1


def _answer(
    content: bytes, memory: _ResidentMemory, measures: Sequence[Measure], *, must_confine: bool
) -> dict[str, Any]:
    reasons = lacks(measures)
    if must_confine and reasons:
        return {"error": _unconfined(reasons)}
    try:
        found = examine(content, memory.bytes)
    except EdgeqError as error:
        return {"error": _refusal(error)}
    return {"ok": {**found, "sandbox": [asdict(measure) for measure in measures]}}


def own_model() -> bytes:
    """Return a small convolution: 'x' -> 'y', float32 [1, 4, 4, 8]."""
    proto = schema.ModelT()
    graph = schema.SubGraphT()
    proto.version, graph.tensors, graph.operators = 3, [], []
    proto.subgraphs, proto.operatorCodes, proto.buffers = [graph], [], [schema.BufferT()]
    model = Model(proto)
    x = model.add_tensor("x", (1, 4, 4, 8), "FLOAT32")
    weights = np.eye(8, dtype=np.float32).reshape(8, 1, 1, 8)
    kernel = model.add_tensor("kernel", weights.shape, "FLOAT32", values=weights)
    bias = model.add_tensor("bias", (8,), "FLOAT32", values=np.zeros(8, np.float32))
    y = model.add_tensor("y", (1, 4, 4, 8), "FLOAT32")
    convolution = model.make_operator("CONV_2D", 1, [x, kernel, bias], [y])
    convolution.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    convolution.builtinOptions = schema.Conv2DOptionsT()
    convolution.builtinOptions.strideH = convolution.builtinOptions.strideW = 1
    model.operators.append(convolution)
    graph.inputs, graph.outputs = np.array([x], np.int32), np.array([y], np.int32)
    return model.to_bytes()


def warm_up(content: bytes) -> None:
    """Use the runtime, with XNNPACK and without, as it is used on a drop."""
    for delegate in (True, False):
        _run(Runner(content, delegate=delegate))


def _refusal(error: EdgeqError) -> dict[str, str]:
    is_damaged = isinstance(error, StructureError)
    stage = "structure" if is_damaged else "load" if isinstance(error, ModelError) else "run"
    return {"stage": stage, "message": error.message, "hint": error.hint}


def _memory_error(memory_bytes: int) -> dict[str, str]:
    return {
        "stage": "probe",
        "message": f"the model needs more than {memory_bytes >> 20} MiB of memory",
        "hint": "Use a smaller model, or give the box more memory.",
    }


def _unconfined(reasons: Sequence[str]) -> dict[str, str]:
    return {
        "stage": "sandbox",
        "message": f"the child that opens a drop cannot be confined: {'; '.join(reasons)}",
        "hint": "See `edgeq doctor`, or set security.sandbox to auto and trust whoever drops.",
    }


def examine(content: bytes, resident_bytes: Callable[[], int] = lambda: 0) -> dict[str, Any]:
    """Return what is known of a model after its structure was checked, and it was loaded and run.

    Raises:
        StructureError: it is damaged.
        UnsupportedModelError: the runtime here cannot load it.
        EngineError, InvalidRequestError: it loads, but does not run.
    """
    resident = resident_bytes()
    _phase("structure")
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
        "memory_bytes": max(len(content), resident_bytes() - resident),
        "load_s": load_s,
        "run_s": run_s,
    }


def _phase(name: str) -> None:
    sys.stderr.write(f"{PHASE}{name}\n")
    sys.stderr.flush()


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


class _ResidentMemory:
    """What this process holds of the box's memory, opened before nothing can be opened."""

    def __init__(self) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> _ResidentMemory:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def bytes(self) -> int:
        """Return it; where /proc is not mounted, the peak is the next best."""
        if self._file is None:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return int(os.pread(self._file, 128, 0).split()[1]) * resource.getpagesize()


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
            hint="Use a smaller model, or give the box more memory.",
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
