"""An admitted drop -> its bundle: the model as it came, with answers to prove it by."""

from __future__ import annotations

import time
from pathlib import Path

import edgeq
from edgeq.bundle import Bundle, Manifest, write_bundle
from edgeq.daemon.loading import make_golden
from edgeq.engines.base import EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.intake.admit import Admitted
from edgeq.tflite.runtime import runtime_version


def kind_and_method(drop: Admitted) -> tuple[EngineKind, str]:
    """Return the engine that serves a drop as it came, and how it was made."""
    return ("cpu-int8", "as-is") if drop.probe.quantized else ("float", "float")


def write_dropped(directory: Path, drop: Admitted) -> Bundle:
    """Write a drop's bundle as the new folder `directory`.

    Raises:
        EdgeqError: the model cannot be run, or the disk refuses the bundle.
    """
    content = drop.path.read_bytes()
    kind, method = kind_and_method(drop)
    engine = CpuEngine(content, kind, threads=1)
    try:
        golden = make_golden(engine)
    finally:
        engine.close()
    manifest = Manifest(
        name=drop.name,
        engine=kind,
        backend="cpu",
        method=method,
        model_sha256=drop.sha256,
        samples=0,
        runtime=str(runtime_version()),
        edgeq=edgeq.__version__,
        created=time.time(),
    )
    contents = {"float.tflite": content, "golden.npz": golden.to_npz()}
    if drop.probe.quantized:
        contents["int8.tflite"] = content
    return write_bundle(directory, contents, manifest)
