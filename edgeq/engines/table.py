"""The literal table of backends: what each builds, and why it may not be usable here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeq.engines.base import Engine
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError
from edgeq.tflite.runtime import runtime_version


@dataclass(frozen=True)
class Backend:
    """One way to run an INT8 model."""

    name: str
    load: Callable[[bytes, int], Engine]  # (int8.tflite, threads) -> Engine
    why_not: Callable[[], str]  # "" where the backend is usable on this box


def load_float(content: bytes, *, threads: int = 1) -> Engine:
    """Load the float model as it was dropped; it always runs on the CPU."""
    return CpuEngine(content, "float", threads=threads)


def _load_cpu(content: bytes, threads: int) -> Engine:
    return CpuEngine(content, "cpu-int8", threads=threads)


def _cpu_why_not() -> str:
    try:
        runtime_version()
    except EngineError as error:
        return error.message
    return ""


def _load_cuda(content: bytes, threads: int) -> Engine:
    raise EngineError(
        f"the CUDA backend is not built yet ({len(content)} bytes of model, {threads} threads)",
        hint="Use backend 'cpu' or 'auto'.",
    )


BACKENDS: tuple[Backend, ...] = (
    Backend("cuda", _load_cuda, lambda: "not built yet"),
    Backend("cpu", _load_cpu, _cpu_why_not),
)


def choose_backend(requested: str) -> Backend:
    """Return the backend named, or for 'auto' the first usable one in the table's order.

    Raises:
        EngineError: the backend is unknown or not usable here.
    """
    candidates = [b for b in BACKENDS if requested in ("auto", b.name)]
    if not candidates:
        names = ", ".join(b.name for b in BACKENDS)
        raise EngineError(f"backend {requested!r} is unknown; there are auto, {names}")
    reasons = {backend.name: backend.why_not() for backend in candidates}
    for backend in candidates:
        if not reasons[backend.name]:
            return backend
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise EngineError(
        f"no usable backend for {requested!r}: {listed}", hint="Run `edgeq doctor` for the reasons."
    )
