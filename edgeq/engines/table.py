"""The literal table of backends: what each builds, and why it may not be usable here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgeq.engines.base import Engine, Files
from edgeq.engines.cpu import CpuEngine
from edgeq.errors import EngineError
from edgeq.tflite.runtime import runtime_version

if TYPE_CHECKING:
    from edgeq.engines.cuda.compiling.compile import Progress


@dataclass(frozen=True)
class Wish:
    """What a backend is asked to make of a model."""

    target: str = ""  # e.g. 'sm_87'; "": this box
    threads: int = 1
    tune: bool = True  # on this box's device
    compiled: Progress | None = None
    tuned: Progress | None = None


@dataclass(frozen=True)
class Made:
    """What a backend made of a model: files for its bundle, and what the manifest says of them."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def _nothing(_: bytes, __: Wish) -> Made:
    """Make nothing: the INT8 model is all that the backend loads."""
    return Made()


@dataclass(frozen=True)
class Backend:
    """One way to run an INT8 model."""

    name: str
    load: Callable[[bytes, int, Files], Engine]  # (int8.tflite, threads, its bundle's files)
    why_not: Callable[[], str]  # "" where the backend is usable on this box
    make: Callable[[bytes, Wish], Made] = _nothing  # (int8.tflite, how)
    has_own_kernels: bool = False  # for ops too that the CPU is faster in with floats


def no_files(_: str) -> None:
    """Stand for a bundle without further files."""
    return


def load_float(content: bytes, *, threads: int = 1) -> Engine:
    """Load the float model as it was dropped; it always runs on the CPU."""
    return CpuEngine(content, "float", threads=threads)


def load_cpu(content: bytes, threads: int, files: Files = no_files) -> Engine:
    """Load an INT8 model on the CPU, the engine whose answers every other must give."""
    return CpuEngine(content, "cpu-int8", threads=threads)


def _cpu_why_not() -> str:
    try:
        runtime_version()
    except EngineError as error:
        return error.message
    return ""


# The GPU's modules are imported where one is asked for: they take 0.2 s and 8 MB.
def _cuda_why_not() -> str:
    from edgeq.engines.cuda.gpu import presence

    return presence.why_not()


def _load_cuda(content: bytes, threads: int, files: Files) -> Engine:
    from edgeq.engines.cuda.backend import load_cuda

    return load_cuda(content, threads, files)


def _make_cuda(content: bytes, wish: Wish) -> Made:
    from edgeq.engines.cuda.backend import make_package

    package = make_package(
        content,
        wish.target,
        threads=wish.threads,
        tune=wish.tune,
        compiled=wish.compiled,
        tuned=wish.tuned,
    )
    return Made(package.files(), package.details())


CPU = Backend("cpu", load_cpu, _cpu_why_not)
CUDA = Backend("cuda", _load_cuda, _cuda_why_not, _make_cuda, has_own_kernels=True)
BACKENDS: tuple[Backend, ...] = (CUDA, CPU)


def usable_backends(requested: str) -> tuple[Backend, ...]:
    """Return the backend named, or for 'auto' all usable ones in the table's order.

    Raises:
        EngineError: the backend is unknown or not usable here.
    """
    candidates = [b for b in BACKENDS if requested in ("auto", b.name)]
    if not candidates:
        names = ", ".join(b.name for b in BACKENDS)
        raise EngineError(f"backend {requested!r} is unknown; there are auto, {names}")
    reasons = {backend.name: backend.why_not() for backend in candidates}
    usable = tuple(backend for backend in candidates if not reasons[backend.name])
    if usable:
        return usable
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise EngineError(
        f"no usable backend for {requested!r}: {listed}",
        hint="Run `edgeq doctor` for what mends that; `edgeq build --target` builds for another "
        "box's GPU.",
    )


def choose_backend(requested: str) -> Backend:
    """Return the backend named, or for 'auto' the first usable one in the table's order.

    Raises:
        EngineError: the backend is unknown or not usable here.
    """
    return usable_backends(requested)[0]
