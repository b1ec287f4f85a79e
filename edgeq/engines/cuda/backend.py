"""An INT8 model -> a Package of its kernels, or the engine that runs it on this box's GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeq.errors import EngineError

if TYPE_CHECKING:
    from edgeq.engines.base import Engine
    from edgeq.engines.cuda.package import Package

Files = Callable[[str], bytes | None]
Tick = Callable[[int, int], None]


def why_not() -> str:
    """Return why this box's GPU cannot be used, "" where it can."""
    return "not built yet"


def load(content: bytes, threads: int, files: Files) -> Engine:
    """Load an INT8 model on the GPU."""
    raise EngineError("the CUDA backend is not built yet")


def make(
    content: bytes, target: str, *, threads: int, compiled: Tick | None, tuned: Tick | None
) -> Package:
    """Make the kernels of an INT8 model."""
    raise EngineError("the CUDA backend is not built yet")
