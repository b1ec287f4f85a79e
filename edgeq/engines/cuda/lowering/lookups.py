"""Ops of one int8 value -> a table, by running that very op on the CPU for all 256 values.

Exact by construction, whatever formula the kernel of this CPU and this runtime has. Measured on
LiteRT 2.3.0, x86: no lane and no size of these kernels differs from another.
"""

from __future__ import annotations

import numpy as np

from edgeq.engines.cuda.lowering.draft import Array, Draft, require
from edgeq.engines.cuda.lowering.graph import Op
from edgeq.engines.cuda.lowering.probe import Trial, run_alone
from edgeq.engines.cuda.program.nodes import ChannelLookup, Lookup

LEVELS = 256


def lookup(draft: Draft, op: Op) -> None:
    """Lower an op whose result depends on one value at the same place, and on constants."""
    x, y = draft.bytes(only_input(draft, op)), draft.bytes(op.outputs[0])
    require(draft.tensor(x).shape == draft.tensor(y).shape, "broadcasts its input")
    rank = len(draft.tensor(x).shape)
    require(rank > 0, "takes a scalar")
    shape = (*(1,) * (rank - 1), LEVELS)
    table = run_alone(draft, op, Trial({x: levels(draft, x).reshape(shape)}, shape))
    draft.add(Lookup(x, y, table.reshape(-1)))


def channel_lookup(draft: Draft, op: Op) -> None:
    """Lower PRELU with a slope for each channel."""
    x, y = draft.int8(op.inputs[0]), draft.int8(op.outputs[0])
    shape, slopes = draft.tensor(x).shape, draft.tensor(op.inputs[1])
    require(slopes.constant is not None, "has computed slopes")
    if np.prod(slopes.shape) == 1:
        lookup(draft, op)
        return
    own = np.prod(slopes.shape[:-1], dtype=int) == 1 and slopes.shape[-1] == shape[-1]
    require(bool(own), f"has slopes of the shape {list(slopes.shape)}")
    probed = (LEVELS, *(1,) * (len(shape) - 2), shape[-1])
    own_levels = levels(draft, x).reshape(-1, *(1,) * (len(shape) - 1))
    tables = run_alone(draft, op, Trial({x: np.broadcast_to(own_levels, probed)}, probed))
    draft.add(ChannelLookup(x, y, np.ascontiguousarray(tables.reshape(LEVELS, -1).T)))


def is_unary(draft: Draft, op: Op) -> bool:
    """Say whether the op depends on one value at each place: `a + 3`, but also `a * a`."""
    fed = draft.data_inputs(op)
    constants = [t for t in op.inputs if t >= 0 and t not in fed]
    is_scalar = all(np.prod(draft.tensor(t).shape, dtype=int) == 1 for t in constants)
    alike = len(set(fed)) == 1 and draft.tensor(fed[0]).shape == draft.tensor(op.outputs[0]).shape
    return is_scalar and alike


def only_input(draft: Draft, op: Op) -> int:
    """Return the one tensor that the op depends on."""
    fed = set(draft.data_inputs(op))
    require(len(fed) == 1, f"depends on {len(fed)} values")
    return fed.pop()


def levels(draft: Draft, tensor: int) -> Array:
    """Return all values that a tensor of one byte can hold."""
    return np.arange(-128, 128) if draft.tensor(tensor).type == "INT8" else np.arange(LEVELS)
