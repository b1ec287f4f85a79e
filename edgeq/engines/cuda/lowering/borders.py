"""QUANTIZE and DEQUANTIZE: where float32 becomes int8, where it comes back, and in between."""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.lowering.draft import BYTES, Draft, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.lowering.lookups import lookup
from edgeq.engines.cuda.program.nodes import Dequantize, Quantize


def quantize(draft: Draft, op: Op) -> None:
    """Lower QUANTIZE from float32; from another scale it is a table."""
    x, y = draft.value(op.inputs[0]), draft.bytes(op.outputs[0])
    if draft.tensor(x).type in BYTES:
        lookup(draft, op)
        return
    result = draft.tensor(y)
    require(draft.tensor(x).type == "FLOAT32", f"takes {draft.tensor(x).type}")
    draft.add(Quantize(x, y, float(np.float32(1) / result.scale), result.zero_point))


def dequantize(draft: Draft, op: Op) -> None:
    """Lower DEQUANTIZE to float32."""
    x, y = draft.bytes(op.inputs[0]), draft.value(op.outputs[0])
    source = draft.tensor(x)
    require(draft.tensor(y).type == "FLOAT32", f"gives {draft.tensor(y).type}")
    draft.add(Dequantize(x, y, float(source.scale), source.zero_point))
