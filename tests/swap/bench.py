"""A bench to hold slots to their promises: makes them, holds requests back, looks at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from edgeq.bundle import Golden
from edgeq.swap import Inference, InferRecord, Slot, SwapOptions
from tests.swap.fakes import INPUTS, FakeEngine

WAIT_S = 10.0  # for what should happen at once


class Bench:
    """Makes slots, and lets everything go when the test ends."""

    def __init__(self) -> None:
        self.records: list[InferRecord] = []
        self.slots: list[Slot] = []
        self.engines: list[FakeEngine] = []
        self.gates: list[threading.Event] = []

    def slot(self, **options: Any) -> Slot:
        """Make a slot; its requests run on workers unless `inline_below_s` says otherwise."""
        chosen = SwapOptions(**{"inline_below_s": 0.0, **options})
        self.slots.append(Slot("face", chosen, self.records.append))
        return self.slots[-1]

    def engine(self, factor: float = 1.0, gate: threading.Event | None = None) -> FakeEngine:
        self.engines.append(FakeEngine(factor, gate))
        return self.engines[-1]

    def gate(self) -> threading.Event:
        self.gates.append(threading.Event())
        return self.gates[-1]

    def close(self) -> None:
        for gate in self.gates:
            gate.set()
        for slot in self.slots:
            slot.close()
        assert [fault for engine in self.engines for fault in engine.faults] == []
        # One that was given up is closed by the thread that comes out of it.
        wait_until(lambda: all(engine.is_closed for engine in self.engines))


def golden(factor: float) -> Golden:
    return Golden((INPUTS,), ({"y": INPUTS["x"] * np.float32(factor)},))


def answer(future: Future[Inference]) -> tuple[str, float]:
    inference = future.result(WAIT_S)
    return inference.version, float(inference.outputs["y"][0, 0])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


def in_background(call: Callable[[], object]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def held(bench: Bench, slot: Slot, **publish: Any) -> tuple[FakeEngine, threading.Event]:
    """Publish version 1 with an engine that holds its requests back until the gate is set."""
    gate = bench.gate()
    engine = bench.engine(gate=gate)
    gate.set()
    slot.publish("1", lambda: engine, None, **publish)
    engine.entered.clear()
    gate.clear()
    return engine, gate
