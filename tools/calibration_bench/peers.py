"""The tools of the benchmark: which script, in which environment, with which settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CALIBRATE_ONLY = "calibrate"  # measures, but makes no model


@dataclass(frozen=True)
class Peer:
    """A tool; it makes a .tflite, or an .onnx from the converted model."""

    name: str
    script: str
    settings: tuple[str, ...]
    form: Literal["tflite", "onnx"]
    environment: str | None  # None: the one that runs the benchmark

    def stem(self, setting: str) -> str:
        """Return the name of a result's file, without its suffix."""
        return self.name if len(self.settings) == 1 else f"{self.name}-{setting}"


PEERS = (
    Peer(
        "edgeq",
        "edgeq_command.py",
        ("max", "percentile", "mse", "entropy", "entropy+refine", "auto", "auto+refine",
         CALIBRATE_ONLY),
        "tflite",
        None,
    ),
    Peer("tensorflow", "tensorflow_calibrator.py", ("minmax",), "tflite", "tensorflow"),
    Peer(
        "onnxruntime",
        "onnxruntime_static.py",
        ("minmax", "percentile", "entropy"),
        "onnx",
        "onnxruntime",
    ),
    Peer("modelopt", "modelopt_onnx.py", ("max", "entropy"), "onnx", "modelopt"),
    Peer(
        "ai-edge-quantizer",
        "ai_edge_quantizer_static.py",
        ("preserve", "profiler"),
        "tflite",
        "ai-edge-quantizer",
    ),
    Peer("nncf", "nncf_onnx.py", ("mixed",), "onnx", "nncf"),
)  # fmt: skip


def chosen(names: str) -> tuple[Peer, ...]:
    """Return the peers of a comma-separated list, in the table's order; all for an empty one."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if unknown := wanted - {peer.name for peer in PEERS}:
        known = ", ".join(peer.name for peer in PEERS)
        raise SystemExit(f"no peer is called {sorted(unknown)[0]!r}; there are {known}")
    return tuple(peer for peer in PEERS if not wanted or peer.name in wanted)
