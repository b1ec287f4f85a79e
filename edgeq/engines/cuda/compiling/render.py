"""A Kernel -> the CUDA C source to compile: constants, device layer and template in one text."""

from __future__ import annotations

import functools
import re
from importlib import resources

from edgeq.engines.cuda.launch import Constant, Kernel

DEVICE_LAYER = "device.cuh"
INCLUDED = re.compile(r'^#include "(?!emulator\.h)(.+)"$', re.MULTILINE)


def render(kernel: Kernel) -> str:
    """Return a source that includes nothing; the same kernel always gives the same text."""
    defines = [f"#define EQ_{name} {_literal(value)}" for name, value in kernel.constants]
    defines.append(f"#define EQ_THREADS {kernel.threads}")
    return "\n".join([*defines, template(DEVICE_LAYER), template(f"{kernel.template}.cu")])


@functools.cache
def template(name: str) -> str:
    """Return the text of a file of `kernels/`, what it includes of them in its place."""
    file = resources.files("edgeq.engines.cuda.kernels").joinpath(name)
    return INCLUDED.sub(lambda found: template(found[1]), file.read_text(encoding="utf-8"))


def _literal(value: Constant) -> str:
    if isinstance(value, float):
        return f"{value.hex()}f" if value >= 0 else f"(-{(-value).hex()}f)"
    if isinstance(value, int) and value < 0:
        return f"({value})"
    return str(value)
