"""Where an engine was built and proven -> what is another here and now, in words.

Rounding, timings and compiled kernels hold for the box, the driver and the versions that they were
measured with: LiteRT's kernels differ between processors and releases, and cubins between GPUs.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path

import edgeq
from edgeq.bundle import Manifest
from edgeq.engines.table import CUDA
from edgeq.errors import EngineError
from edgeq.tflite.runtime import runtime_version

Facts = Mapping[str, str]
# ARM's kernel names no model: who made each core, and which one it is (big.LITTLE has several).
_ARM_CORE = re.compile(r"^CPU (implementer|part)\s*:\s*(\S+)", re.M)
_X86_MODEL = re.compile(r"^model name\s*:\s*(.+)$", re.M)


def box_facts(root: Path = Path("/")) -> dict[str, str]:
    """Return what an engine's answers and timings depend on, of a box and its processor."""
    found = {
        "machine": platform.machine(),
        "processor": _processor(_text(root / "proc/cpuinfo")),
        "board": _text(root / "proc/device-tree/model").rstrip("\0"),
    }
    return {key: value for key, value in found.items() if value}


def gpu_facts() -> dict[str, str]:
    """Return what kernels depend on, of this box's GPU; empty where none can be used."""
    from edgeq.engines.cuda.gpu.device import facts  # 0.2 s, for those who have a GPU

    try:
        device = facts()
    except EngineError:
        return {}
    driver = f"{device.driver[0]}.{device.driver[1]}"
    return {"gpu": device.name, "target": device.target.name, "driver": driver}


def differences(manifest: Manifest, root: Path = Path("/")) -> tuple[str, ...]:
    """Return what is another than when a bundle was built; empty where it may be trusted.

    What an older edgeq did not record is taken to be as here. Without a usable GPU nothing is said
    of a GPU's bundle: the CPU answers for it, until the GPU is there again.
    """
    then: dict[str, str] = {
        "edgeq": manifest.edgeq,
        "runtime": manifest.runtime,
        **manifest.device,
        **_gpu_of(manifest),
    }
    now = {
        "edgeq": edgeq.__version__,
        "runtime": str(runtime_version()),
        **box_facts(root),
        **(gpu_facts() if manifest.backend == CUDA.name else {}),
    }
    return tuple(
        f"{key} was {then[key]!r} and is {now[key]!r}"
        for key in then
        if key in now and then[key] != now[key]
    )


def _gpu_of(manifest: Manifest) -> dict[str, str]:
    if manifest.backend != CUDA.name:
        return {}
    keys = ("gpu", "target", "driver")
    return {key: str(manifest.details[key]) for key in keys if key in manifest.details}


def _processor(cpuinfo: str) -> str:
    if found := _X86_MODEL.search(cpuinfo):
        return found[1].strip()
    words = [f"{kind} {value}" for kind, value in _ARM_CORE.findall(cpuinfo)]
    return ", ".join(dict.fromkeys(words))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
