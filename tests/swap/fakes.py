"""Engines that do what a test says: answer, wait, fail, count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeq.tflite.runtime import TensorSpec

SPEC = TensorSpec("x", (1, 2), np.dtype("f4"))
ANSWER = TensorSpec("y", (1, 2), np.dtype("f4"))
INPUTS = {"x": np.array([[1, 2]], "f4")}


class FakeEngine:
    """y = factor * x; `gate` holds every inference back while it is not set."""

    kind = "cpu-int8"
    fault = ""
    inputs: tuple[TensorSpec, ...] = (SPEC,)
    outputs: tuple[TensorSpec, ...] = (ANSWER,)

    def __init__(self, factor: float = 1.0, gate: threading.Event | None = None) -> None:
        self.factor = factor
        self.gate = gate
        self.entered = threading.Event()
        self.inside = threading.Lock()
        self.runs = 0
        self.is_closed = False
        self.fail: Callable[[], Exception] | None = None
        self.answer: dict[str, Any] | None = None
        self.faults: list[str] = []

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Answer; an engine is neither used after its end nor by two threads at once."""
        assert self.inside.acquire(blocking=False), "two threads in one engine"
        try:
            self.entered.set()
            if self.gate is not None:
                assert self.gate.wait(10)
            assert not self.is_closed, "used after close"
            self.runs += 1
            if self.fail is not None:
                raise self.fail()
            return self.answer or {"y": inputs["x"] * self.factor}
        finally:
            self.inside.release()

    def close(self) -> None:
        """End once, and not while a thread is inside; the slot would swallow an exception."""
        if self.inside.locked() or self.is_closed:
            self.faults.append("closed in use" if self.inside.locked() else "closed twice")
        self.is_closed = True


class BatchableFake(FakeEngine):
    """Takes `seconds` for a run, whether of one sample or of many; its twin may be spoilt."""

    def __init__(self, factor: float = 1.0, size: int = 1, seconds: float = 0.001) -> None:
        super().__init__(factor)
        self.size = size
        self.seconds = seconds
        self.inputs = (TensorSpec("x", (size, 2), np.dtype("f4")),)
        self.outputs = (TensorSpec("y", (size, 2), np.dtype("f4")),)
        self.twins: list[BatchableFake] = []
        self.seen: list[Any] = []
        self.make_twin: Callable[[int], BatchableFake] = lambda size: BatchableFake(factor, size)

    def batched(self, size: int) -> BatchableFake:
        """Make a twin; the test looks at it in `twins`."""
        self.twins.append(self.make_twin(size))
        return self.twins[-1]

    def infer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Answer after a while; refuses what is not its size."""
        time.sleep(self.seconds)
        self.seen.append(inputs["x"])
        assert inputs["x"].shape == (self.size, 2)
        return super().infer(inputs)
