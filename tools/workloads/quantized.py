"""Nets with random weights -> INT8 .tflite files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.files import write_atomic
from edgeq.quantize.convert import quantize
from edgeq.tflite.model import Model
from tools.workloads.layers import Net
from tools.workloads.nets import WORKLOADS


def write_workloads(folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """Write each net as `<name>.tflite`; those in `only`, where it names any."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for workload in WORKLOADS:
        if only and workload.name not in only:
            continue
        path = folder / f"{workload.name}.tflite"
        write_atomic(path, int8_form(workload.make(workload.side, 1.0)).to_bytes(), mode=0o644)
        written.append(path)
    return written


def int8_form(net: Net) -> Model:
    """Return the INT8 form of a net; its input and outputs stay float."""
    result = quantize(net.model, net.table)
    if result.float_ops:
        left = ", ".join(sorted({f"{op.name} ({op.reason})" for op in result.float_ops}))
        raise ValueError(f"ops of the workload stay float: {left}")
    return result.model
