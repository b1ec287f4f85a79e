"""A slot without a server: what its ways to run a model cost and bring, on one event loop.

    python -m tools.bench_slot MODEL.tflite [MODEL.tflite ...]
    python -m tools.bench_slot MODEL.tflite --clients 1,16 --ways inline,workers,instances=2

Clients are tasks of one loop, each asks again when it has its answer; what a protocol would take of
the loop's thread is spent in a busy wait. `wait` is from one answer to the next request's, the wait
for the loop included. `beside` is what a request to another, empty model waits meanwhile. The ways
take turns in interleaved rounds; figures are medians of the rounds.

    inline       as served: on the loop's thread where the model is quick, else on a worker
    unbounded    all inferences on the loop's thread
    workers      none of them
    instances=N  none, N engines;  batch=N  none, up to N requests together
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.bundle import Golden
from edgeq.engines.cpu import CpuEngine
from edgeq.swap import Slot, SwapOptions, TurnBudget
from edgeq.tflite.runtime import TensorSpec
from tools.columns import aligned, shown

Inputs = Mapping[str, npt.NDArray[Any]]

ALL_WAYS = "inline,unbounded,workers,instances=2,instances=4,batch=4,batch=8"
BESIDE_GAP_S = 0.005
HEADER = ("model", "clients", "requests/s", "p50 ms", "p99 ms", "beside ms", "way")


@dataclass(frozen=True)
class Round:
    """What one round found; seconds."""

    per_s: float
    p50: float
    p99: float
    beside: float


class EmptyEngine:
    """Answers with its input."""

    kind = "cpu-int8"
    fault = ""
    inputs = outputs = (TensorSpec("x", (1, 2), np.dtype("f4")),)

    def infer(self, inputs: Inputs) -> dict[str, npt.NDArray[Any]]:
        return dict(inputs)

    def close(self) -> None:
        """Hold nothing."""


def options_of(way: str) -> SwapOptions:
    name, _, number = way.partition("=")
    if name == "inline":
        return SwapOptions()
    if name == "unbounded":
        return SwapOptions(inline_below_s=float("inf"))
    key = {"workers": "instances", "instances": "instances", "batch": "max_batch"}[name]
    changed: dict[str, Any] = {key: int(number or 1)}
    return SwapOptions(inline_below_s=0.0, **changed)


def random_inputs(specs: Sequence[TensorSpec], seed: int) -> Inputs:
    random = np.random.default_rng(seed)
    return {
        spec.name: (random.normal(0, 1 if spec.dtype.kind == "f" else 40, spec.shape)).astype(
            spec.dtype
        )
        for spec in specs
    }


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def answered(slot: Slot, inputs: Inputs) -> None:
    future = slot.submit(inputs)
    if not future.done():
        await asyncio.wrap_future(future)
    future.result()


async def one_round(
    slot: Slot, empty: Slot, inputs: Inputs, clients: int, seconds: float, protocol_s: float
) -> Round:
    end = time.perf_counter() + seconds
    waits: list[float] = []
    beside: list[float] = []

    async def client() -> None:
        last = time.perf_counter()
        while last < end:
            await asyncio.sleep(0)  # where its next request is read
            busy(protocol_s / 2)
            await answered(slot, inputs)
            busy(protocol_s / 2)
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    async def neighbour() -> None:
        while time.perf_counter() < end:
            due = time.perf_counter() + BESIDE_GAP_S
            await asyncio.sleep(BESIDE_GAP_S)
            await answered(empty, {"x": np.zeros((1, 2), "f4")})
            beside.append(time.perf_counter() - due)

    started = time.perf_counter()
    await asyncio.gather(neighbour(), *(client() for _ in range(clients)))
    took = time.perf_counter() - started
    p50, p99 = np.quantile(waits, (0.5, 0.99))
    return Round(len(waits) / took, float(p50), float(p99), statistics.median(beside))


def measure(model: Path, way: str, clients: int, arguments: argparse.Namespace) -> Round:
    """Run one round with a slot of its own."""
    content, turn = model.read_bytes(), TurnBudget(float("inf") if way == "unbounded" else 0.001)

    def load() -> CpuEngine:
        return CpuEngine(content, "cpu-int8", threads=1)

    engine = load()
    rows = [random_inputs(engine.inputs, seed) for seed in range(4)]
    golden = Golden(tuple(map(dict, rows)), tuple(engine.infer(row) for row in rows))
    slot = Slot("model", options_of(way), lambda record: None, turn)
    empty = Slot("empty", SwapOptions(), lambda record: None, turn)
    try:
        slot.publish("1", load, golden)
        empty.publish("1", EmptyEngine, None)
        work = one_round(
            slot, empty, rows[0], clients, arguments.seconds, arguments.protocol_us / 1e6
        )
        return asyncio.run(work)
    finally:
        slot.close()
        empty.close()


def table(arguments: argparse.Namespace) -> str:
    found: dict[tuple[Path, int, str], list[Round]] = {}
    for _ in range(arguments.rounds):
        for model in arguments.models:
            for clients in map(int, arguments.clients.split(",")):
                for way in arguments.ways.split(","):
                    rounds = found.setdefault((model, clients, way), [])
                    rounds.append(measure(model, way, clients, arguments))
    return aligned(
        HEADER,
        [
            (model.stem, str(clients), *figures(rounds), way)
            for (model, clients, way), rounds in found.items()
        ],
    )


def figures(rounds: Sequence[Round]) -> tuple[str, ...]:
    def median(name: str) -> float:
        return statistics.median(getattr(one, name) for one in rounds)

    times = (shown(median(name), 2, scale=1e3) for name in ("p50", "p99", "beside"))
    return (shown(median("per_s"), 0), *times)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients (1,4,16)")
    parser.add_argument("--ways", default=ALL_WAYS, help=f"ways to run it ({ALL_WAYS})")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (5)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a round (0.4)")
    parser.add_argument("--protocol-us", type=float, default=60.0, help="busy wait a request (60)")
    print(table(parser.parse_args(words)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
