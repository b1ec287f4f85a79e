"""A .tflite model -> an Engine on this box's CPU, through LiteRT and XNNPACK."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from edgeq.engines.base import EngineKind
from edgeq.tflite.runtime import Runner


class CpuEngine:
    """Float or INT8 on the CPU: the same interpreter, another file."""

    def __init__(
        self,
        content: bytes,
        kind: EngineKind,
        *,
        threads: int,
        delegate: bool = True,
        batch: int | None = None,
    ) -> None:
        self._runner = Runner(content, threads=threads, delegate=delegate, batch=batch)
        self._batched = functools.partial(
            CpuEngine, content, kind, threads=threads, delegate=delegate
        )
        self.kind = kind
        self.fault = ""
        self.inputs = self._runner.inputs
        self.outputs = self._runner.outputs

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; errors as `Runner.run`."""
        return self._runner.run(inputs)

    def batched(self, size: int) -> CpuEngine:
        """Load the same model for `size` samples at a time; errors as `Runner`."""
        return self._batched(batch=size)

    def close(self) -> None:
        """Free the interpreter."""
        self._runner.close()
