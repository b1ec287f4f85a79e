"""The NVRTC that the tests compile with, sources for it, and a fake of one."""

from __future__ import annotations

import pytest

from edgeq.engines.cuda.compiling import nvrtc, render
from edgeq.engines.cuda.compiling.nvrtc import Compiler
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError

SMALL = 'extern "C" __global__ void small(int* y) { y[0] = EQ_N; }\n'


def real_compiler(target: Target | None = None) -> Compiler:
    """Return the box's NVRTC, or skip the test."""
    try:
        return nvrtc.find_compiler(target)
    except EngineError as error:
        pytest.skip(error.message)


def small_kernel(n: int) -> Kernel:
    """Return a kernel that compiles in some 30 ms, once `give_templates` was called."""
    return Kernel("small", (("N", n),), 32)


def give_templates(monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    """Let the renderer find these templates and an empty device layer."""
    known = {"device.cuh": "", "small.cu": SMALL}
    known |= {f"{name}.cu": source for name, source in sources.items()}
    monkeypatch.setattr(render, "template", known.__getitem__)
