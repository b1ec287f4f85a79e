"""What was tuned on this box -> disk, so that the same kernels are not timed again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from edgeq import files
from edgeq.engines.cuda.launch import Launch

MAX_ENTRIES = 20_000  # some 200 nets; the oldest are forgotten
_FORMAT = 1


@dataclass(frozen=True)
class DeviceIdentity:
    """All of a device that its timings depend on."""

    name: str
    multiprocessors: int
    driver: tuple[int, int]  # the CUDA version that it has
    power_mode: str  # as `read_power_mode` tells


def read_power_mode(root: Path = Path("/")) -> str:
    """Return a Jetson's power mode and its GPU's highest clock; "" where the box has neither."""
    found = [_text(root / "var/lib/nvpmodel/status")]
    for path in sorted((root / "sys/class/devfreq").glob("*")):
        if any(name in path.name for name in ("gpu", "gp10b", "gv11b", "ga10b", "gb10b", "gm20b")):
            found.append(f"{path.name} {_text(path / 'max_freq')}")
    return "; ".join(line for line in found if line)


def tuning_key(device: DeviceIdentity, launches: Sequence[Launch], names: Sequence[str]) -> str:
    """Return the digest of what a node's tuning depends on.

    Args:
        device: where it is timed.
        launches: of one choice: their constants are the node's shapes and strides.
        names: of all choices that are timed.
    """
    shapes = [(launch.kernel, launch.grid) for launch in launches]
    content = repr((_FORMAT, device, _kernels_digest(), shapes, tuple(names)))
    return hashlib.sha256(content.encode()).hexdigest()


def _kernels_digest() -> str:
    """Return the digest of all templates: a kernel that was improved is timed anew."""
    folder = resources.files("edgeq.engines.cuda.kernels")
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if ".cu" in path.name:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@dataclass
class Remembered:
    """Which choice was the fastest, by `tuning_key`; kept in one JSON file.

    A file that cannot be read is empty; one that cannot be written says why.
    """

    path: Path | None = None
    _choices: dict[str, dict[str, Any]] = field(default_factory=dict)
    _added: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> Remembered:
        """Read the file; None: remember only as long as the process lives."""
        return cls(path, _read(path) if path else {})

    def get(self, key: str) -> tuple[str, float] | None:
        """Return the choice's name and its measured microseconds."""
        entry = self._choices.get(key)
        return (entry["choice"], entry["microseconds"]) if entry else None

    def add(self, key: str, label: str, choice: str, microseconds: float) -> None:
        """Remember a choice; `save` writes it."""
        entry = {"label": label, "choice": choice, "microseconds": round(microseconds, 3)}
        self._choices[key] = self._added[key] = entry

    def save(self) -> str:
        """Write what was added to what others wrote meanwhile; return "", or why that failed."""
        if self.path is None or not self._added:
            return ""
        merged = _read(self.path) | self._added
        kept = dict(list(merged.items())[-MAX_ENTRIES:])
        content = json.dumps({"format": _FORMAT, "choices": kept}, indent=0)
        try:
            files.make_directory(self.path.parent)
            files.write_atomic(self.path, content.encode())
        except OSError as error:
            return f"tuning is not kept in {self.path}: {error.strerror or error}"
        self._added.clear()
        return ""


def _read(path: Path) -> dict[str, dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        document = json.loads(path.read_bytes())
        if document["format"] == _FORMAT:
            return {k: e for k, e in document["choices"].items() if _is_entry(e)}
    return {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry["choice"], str) and isinstance(entry["microseconds"], float)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
