"""A plan and its inputs -> its outputs, carried out on a machine whose memory is poisoned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.planning.plan import Plan
from tests.engines.cuda.harness import MakeMachine
from tests.engines.cuda.machines import run
from tests.engines.cuda.spaces import POISON, Contents

Array = npt.NDArray[Any]


def run_plan(plan: Plan, inputs: Mapping[str, Array], machine: MakeMachine, seed: int = 0
             ) -> dict[str, Array]:  # fmt: skip
    """Return every output by its name."""
    contents = Contents(
        np.full(plan.arena_bytes, POISON, np.uint8),
        np.frombuffer(plan.constants, np.uint8),
        plan.scratch_bytes,
        tuple(_bytes(inputs[port.name]) for port in plan.inputs),
        tuple(np.full(port.size, POISON, np.uint8) for port in plan.outputs),
    )
    carrying = machine(contents, plan.target, seed)
    try:
        run(carrying, plan.launches)
        return {
            port.name: _shaped(carrying.memory("output", index), port.datatype, port.shape)
            for index, port in enumerate(plan.outputs)
        }
    finally:
        carrying.close()


def _bytes(array: Array) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _shaped(held: npt.NDArray[np.uint8], datatype: str, shape: Sequence[int]) -> Array:
    return held.copy().view(datatype).reshape(shape)
