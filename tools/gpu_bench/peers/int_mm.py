"""torch._int_mm: cuBLASLt's int8 product, without bias and requantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tools.gpu_bench.convolutions import Convolution
from tools.gpu_bench.peers import Absent
from tools.gpu_bench.peers.gpu_graphs import microseconds

LEAST_ROWS = 17  # what the function itself asks for
MULTIPLE = 8


def why_not(convolution: Convolution) -> str:
    """Return why the function cannot take it; "" where it can."""
    if not convolution.is_product:
        return "not a matrix product"
    if convolution.rows < LEAST_ROWS:
        return f"{convolution.rows} rows; it takes {LEAST_ROWS} or more"
    if convolution.c % MULTIPLE or convolution.oc % MULTIPLE:
        return f"extents that are no multiples of {MULTIPLE}"
    return ""


def measure(layers: Sequence[Convolution]) -> list[dict[str, Any]]:
    """Return the microseconds of each layer, or why there are none."""
    if not torch.cuda.is_available():
        raise Absent("torch sees no GPU")
    return [_measured(layer) for layer in layers]


def _measured(layer: Convolution) -> dict[str, Any]:
    if reason := why_not(layer):
        return {"reason": reason}
    a = torch.randint(-127, 128, (layer.rows, layer.c), dtype=torch.int8, device="cuda")
    b = torch.randint(-127, 128, (layer.oc, layer.c), dtype=torch.int8, device="cuda").t()
    try:
        return {"us": microseconds(lambda: torch._int_mm(a, b)), "form": "int32 out"}
    except RuntimeError as error:
        return {"reason": str(error).splitlines()[0]}
