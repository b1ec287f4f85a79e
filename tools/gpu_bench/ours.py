"""The engine's own figures for one model: bits, latency with and without a graph, each layer."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edgeq.engines.cpu import CpuEngine
from edgeq.engines.cuda.backend import make_package
from edgeq.engines.cuda.engine import CudaEngine
from edgeq.engines.cuda.gpu.context import Gpu, shared_gpu
from edgeq.engines.cuda.gpu.device import facts
from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread
from edgeq.engines.cuda.gpu.loaded import LoadedPlan, load
from edgeq.engines.cuda.package import Package, as_model
from edgeq.engines.cuda.planning.plan import Plan
from tools.gpu_bench.bits import compare
from tools.gpu_bench.models import batched, noise
from tools.gpu_bench.rates import board_of, layer_rates
from tools.gpu_bench.timing import time_calls

COMPARED = 3  # inputs


def device() -> dict[str, Any]:
    """Return what the GPU is, and the peaks that rates are related to."""
    found = facts()
    board = board_of(found.name, found.target)
    return {
        **asdict(found),
        "target": found.target.name,
        "board": board.name,
        "int8_tops": board.int8_tops,
        "gigabytes_per_s": board.gigabytes_per_s,
    }


def check(content: bytes) -> dict[str, Any]:
    """Compare the engine with the CPU engine, kernels chosen by the cost model's word alone."""
    return _compared(make_package(content, facts().target.name, threads=_threads()), content)


def measure(content: bytes, batch: int, seconds: float) -> dict[str, Any]:
    """Tune, compare with the CPU engine, and time.

    Args:
        content: the INT8 model for one sample.
        batch: how many samples at once.
        seconds: how long each way is timed.
    """
    content = batched(content, batch)
    with held_gpu():
        package = make_package(content, threads=_threads())
        compared = _compared(package, content)
        ways: dict[str, Any] = {"graph": _engine_time(package, content, seconds)}
        layers: list[dict[str, Any]] = []
        if package.planned.partition.is_whole:
            ways["eager"], ways["graph"]["gpu_us"], layers = _plan_times(package, content, seconds)
    return {**compared, "ways": ways, "layers": layers}


@contextlib.contextmanager
def held_gpu() -> Iterator[OwnerThread[Gpu]]:
    """Keep the context between engines: the last one to close ends it otherwise."""
    owner = shared_gpu()
    owner.acquire()
    try:
        yield owner
    finally:
        owner.release()


def cpu(content: bytes, batch: int, seconds: float) -> dict[str, Any]:
    """Time the CPU engine with all threads."""
    content = batched(content, batch)
    engine = CpuEngine(content, "cpu-int8", threads=_threads())
    (inputs,) = noise(content, 1)
    times = time_calls(lambda: engine.infer(inputs), seconds=seconds)
    engine.close()
    return {"ways": {f"{_threads()} threads": asdict(times)}}


def _compared(package: Package, content: bytes) -> dict[str, Any]:
    engine = _engine(package)
    reference = CpuEngine(content, "cpu-int8", threads=1)
    try:
        bits = compare(engine, reference, noise(content, COMPARED))
        if engine.fault:
            raise RuntimeError(f"the GPU failed: {engine.fault}")
    finally:
        engine.close()
        reference.close()
    return {"bits": asdict(bits), "kernels": package.details()}


def _engine(package: Package) -> CudaEngine:
    cubins = {kernel: compiled.image for kernel, compiled in package.kernels.items()}
    return CudaEngine(as_model(package.planned, cubins))


def _engine_time(package: Package, content: bytes, seconds: float) -> dict[str, Any]:
    """Time the engine as the server calls it."""
    engine = _engine(package)
    (inputs,) = noise(content, 1)
    try:
        return asdict(time_calls(lambda: engine.infer(inputs), seconds=seconds))
    finally:
        engine.close()


def _plan_times(
    package: Package, content: bytes, seconds: float
) -> tuple[dict[str, Any], float, list[dict[str, Any]]]:
    """Return the time without a graph, the microseconds of the net alone, and each layer's."""
    (plan,) = package.planned.plans
    cubins = {kernel: package.kernels[kernel].image for kernel in plan.kernels}
    (inputs,) = noise(content, 1)
    given = list(inputs.values())
    with held_gpu() as owner:
        loaded = load(owner, plan, cubins)
        eager = owner.call(
            lambda _: asdict(time_calls(lambda: loaded.run_eagerly(given), seconds=seconds))
        )
        whole = owner.call(lambda _: loaded.microseconds(plan.launches))
        layers = owner.call(lambda _: _layers(loaded, plan))
        owner.call(lambda _: loaded.close())
    return eager, whole, layers


def _layers(loaded: LoadedPlan, plan: Plan) -> list[dict[str, Any]]:
    taken = [loaded.microseconds([launch]) for launch in plan.launches]
    found = facts()
    return [asdict(r) for r in layer_rates(plan, taken, board_of(found.name, found.target))]


@functools.cache
def _threads() -> int:
    return len(os.sched_getaffinity(0))
