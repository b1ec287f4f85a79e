"""What an engine is: named numpy arrays in, named numpy arrays out, and its own end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy.typing as npt

from edgeq.tflite.runtime import TensorSpec

EngineKind = Literal["float", "cpu-int8", "cuda-int8"]
Files = Callable[[str], bytes | None]  # a bundle's file by its name, None where it has none
PLAN_TEXT = "cuda/plan.txt"  # in a bundle: what the GPU's engine does, for people


class Engine(Protocol):
    """One loaded model; not thread-safe, so a pool holds several."""

    @property
    def kind(self) -> EngineKind:
        """Who answers: what the responses name as X-Edgeq-Engine."""

    @property
    def fault(self) -> str:
        """Why another kind answers than the one it was loaded as; "" where none does."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `infer` returns."""

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; errors as `tflite.runtime.Runner.run`."""

    def close(self) -> None:
        """Free what the engine holds."""


@runtime_checkable
class BatchableEngine(Engine, Protocol):
    """An engine that can be loaded again for several samples at a time."""

    def batched(self, size: int) -> Engine:
        """Load its twin, whose inputs have `size` as their first extent.

        Raises:
            EngineError: the model cannot run so.
        """
