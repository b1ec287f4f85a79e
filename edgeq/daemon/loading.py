"""A bundle -> its engine, what that needs of memory, and answers to prove it by."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Bundle, Golden
from edgeq.daemon.starts import Allowed
from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import CPU, choose_backend, load_cpu, load_float
from edgeq.errors import EngineError
from edgeq.swap.memory import engine_bytes
from edgeq.tflite.runtime import TensorSpec

logger = logging.getLogger(__name__)

GOLDEN_RUNS = 2  # of a float model, on inputs of its own making


@dataclass(frozen=True)
class Restriction:
    """Which engines of a version may be loaded, and why not all."""

    allowed: Allowed = "all"
    reason: str = ""


def load_engine(bundle: Bundle, threads: int) -> Engine:
    """Load what a bundle holds.

    A GPU that is not usable any more (a driver update, say) must not silence the box: the same
    INT8 model then runs on the CPU, with the same answers.

    Raises:
        EngineError: this box cannot run it.
    """
    if bundle.manifest.engine == "float":
        return load_float(bundle.read("float.tflite"), threads=threads)
    content, wanted = bundle.read("int8.tflite"), bundle.manifest.backend
    try:
        backend = choose_backend(wanted)
    except EngineError as error:
        if wanted == CPU.name:
            raise
        fields = {"model": bundle.manifest.name, "backend": wanted, "reason": error.message}
        logger.warning("serving on the CPU", extra=fields)
        return load_cpu(content, threads)
    return backend.load(content, threads, bundle.read_if_there)


def _is_restricted(bundle: Bundle, only: Restriction) -> bool:
    """True where the bundle's own engine is not among those that may be loaded."""
    manifest = bundle.manifest
    if manifest.engine == "float":
        return False
    return manifest.method != "as-is" if only.allowed == "float" else manifest.backend != CPU.name


def load_restricted(bundle: Bundle, threads: int, only: Restriction) -> Engine:
    """Load what a bundle holds, or what may stand in for it; the engine's `fault` says why.

    Raises:
        EngineError: nothing of it may be loaded, or can be.
    """
    if only.allowed == "none":
        raise EngineError(
            f"it is not loaded: {only.reason}",
            hint="Look at the log for what happened; a new drop, or a load by hand, is tried.",
        )
    if not _is_restricted(bundle, only):
        return load_engine(bundle, threads)
    if only.allowed == "float":
        engine = CpuEngine(bundle.read("float.tflite"), "float", threads=threads)
    else:
        engine = CpuEngine(bundle.read("int8.tflite"), "cpu-int8", threads=threads)
    engine.fault = only.reason
    return engine


def golden_of(bundle: Bundle, only: Restriction) -> Golden | None:
    """Return what the engine must reproduce; None where the float model stands in for INT8."""
    if only.allowed == "float" and _is_restricted(bundle, only):
        return None
    return Golden.from_npz(bundle.read("golden.npz"))


def bundle_bytes(bundle: Bundle) -> int:
    """Estimate the memory of a bundle's engine; a GPU's package counts twice: read, and loaded."""
    model = "float.tflite" if bundle.manifest.engine == "float" else "int8.tflite"
    entries = bundle.manifest.files.items()
    package = sum(entry.bytes for name, entry in entries if name.startswith("cuda/"))
    return engine_bytes(bundle.read(model)) + 2 * package


def make_golden(engine: Engine) -> Golden:
    """Return answers of a model for which no sample exists yet, on seeded random inputs."""
    draw = np.random.default_rng(0)
    inputs = tuple(
        {spec.name: _random(spec, draw) for spec in engine.inputs} for _ in range(GOLDEN_RUNS)
    )
    return Golden(inputs, tuple(engine.infer(given) for given in inputs))


def _random(spec: TensorSpec, draw: np.random.Generator) -> npt.NDArray[Any]:
    shape = [max(1, extent) for extent in spec.shape]
    if spec.dtype.kind == "f":
        return draw.random(shape).astype(spec.dtype)
    return draw.integers(0, 2, shape).astype(spec.dtype)
