"""A model's files, /proc and the control group -> whether two of its versions fit at a time.

The estimate is twice (two copies of the file, for the runtime repacks weights, and the largest sum
of values alive at an op) and 512 KiB: what one engine added to a process, over that sum, was 0.6 to
1.9 for nine real models, float and INT8, of 0.1 to 2.7 MB, on XNNPACK.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import EdgeqError
from edgeq.swap.options import Policy
from edgeq.tflite.model import Model, indices

COPIES = 2  # of the file: as read, and its weights repacked
MARGIN = 2.0
BASE_BYTES = 512 << 10  # of an interpreter without a model
RESERVE_RATIO = 0.05  # of all memory: left to everybody else
ITEM_BYTES = {"FLOAT64": 8, "INT64": 8, "UINT64": 8, "FLOAT16": 2, "INT16": 2, "UINT16": 2,
              "INT8": 1, "UINT8": 1, "BOOL": 1}  # fmt: skip
LARGEST_ITEM = 4  # of float32, int32 and what is not listed
KIB = 1 << 10


@dataclass(frozen=True)
class Memory:
    """What may still be taken, and what sets that bound; bytes."""

    available: int
    bound: str  # e.g. 'MemAvailable', 'memory.max of /system.slice/edgeq.service'


@dataclass(frozen=True)
class Choice:
    """A swap's policy and what it was chosen by; bytes, 0 where nothing was estimated."""

    policy: Policy
    reason: str
    needed: int = 0
    available: int = 0


def engine_bytes(content: bytes) -> int:
    """Estimate what an engine of this .tflite takes; 0 where the file cannot be read."""
    try:
        arena = arena_bytes(Model.from_bytes(content))
    except EdgeqError:
        return 0
    return int(MARGIN * (COPIES * len(content) + arena)) + BASE_BYTES


def arena_bytes(model: Model) -> int:
    """Return the largest sum of activations that are alive at one op; a free extent counts as 1."""
    born = dict.fromkeys(model.inputs, 0)
    dies: dict[int, int] = {}
    steps = len(model.operators)
    for step, operator in enumerate(model.operators):
        for index in indices(operator.outputs):
            born.setdefault(index, step)
        for index in indices(operator.inputs):
            dies[index] = step
    dies.update(dict.fromkeys(model.outputs, steps))
    change = [0] * (steps + 2)
    for index, step in born.items():
        size = _tensor_bytes(model, index)
        change[step] += size
        change[dies.get(index, step) + 1] -= size
    alive = largest = 0
    for size in change:
        alive += size
        largest = max(largest, alive)
    return largest


def _tensor_bytes(model: Model, index: int) -> int:
    item = ITEM_BYTES.get(model.type_name(index), LARGEST_ITEM)
    return item * math.prod(max(1, extent) for extent in model.shape(index))


def choose_policy(needed: int, memory: Memory | None) -> Choice:
    """Load the new engine beside the old one where it fits; without figures it is taken to fit."""
    if not needed or memory is None:
        return Choice("load-then-drop", "no memory estimate")
    fits = needed <= memory.available
    what = f"needs about {_mib(needed)}, {_mib(memory.available)} are left by {memory.bound}"
    policy: Policy = "load-then-drop" if fits else "drop-then-load"
    return Choice(policy, what, needed, memory.available)


def available_memory(root: Path = Path("/")) -> Memory | None:
    """Return the tightest bound on what this process may still take, None where none is known.

    Args:
        root: of the filesystem that holds proc and sys.
    """
    return min((*_system(root), *_groups(root)), key=lambda memory: memory.available, default=None)


def _system(root: Path) -> Iterator[Memory]:
    """Linux' own estimate of what can be had without swapping, less a reserve."""
    lines = _lines(root / "proc/meminfo")
    rows = {line.split(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    total, available = (_number(rows.get(key, "")) for key in ("MemTotal", "MemAvailable"))
    if total is not None and available is not None:
        left = available - int(RESERVE_RATIO * total)
        yield Memory(max(0, left) * KIB, "MemAvailable")


def _groups(root: Path) -> Iterator[Memory]:
    """The limits of this process' control group and of those around it, of either version."""
    for line in _lines(root / "proc/self/cgroup"):
        controllers, _, path = line.split(":", 1)[-1].partition(":")
        if controllers in ("", "memory"):
            is_unified = controllers == ""
            base = root / "sys/fs/cgroup" / ("" if is_unified else "memory")
            limits = ("memory.max", "memory.high") if is_unified else ("memory.limit_in_bytes",)
            usage = "memory.current" if is_unified else "memory.usage_in_bytes"
            here = Path(path.strip().lstrip("/"))
            for group in (here, *here.parents):
                yield from _limits(base / group, f"/{group}".rstrip("."), limits, usage)


def _limits(folder: Path, group: str, limits: tuple[str, ...], usage_file: str) -> Iterator[Memory]:
    used = _number(_read(folder / usage_file))
    for name in limits if used is not None else ():
        limit = _number(_read(folder / name))  # 'max' where there is none
        if used is not None and limit is not None:
            left = limit - used + _reclaimable(folder) - int(RESERVE_RATIO * limit)
            yield Memory(max(0, left), f"{name} of {group}")


def _reclaimable(folder: Path) -> int:
    """The page cache that the kernel drops before the limit is felt."""
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat") if " " in line)
    return _number(stat.get("total_inactive_file", stat.get("inactive_file", ""))) or 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
