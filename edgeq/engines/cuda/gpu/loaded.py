"""A plan and its cubins -> the same in the GPU's memory, as one graph that is replayed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.gpu.context import Gpu
from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread
from edgeq.engines.cuda.gpu.memory import Loadable, lay_out
from edgeq.engines.cuda.launch import Kernel, Launch
from edgeq.engines.cuda.planning.plan import Port
from edgeq.errors import DeviceError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]

TIMED_MS = 1.0
TIMED_RUNS = 3
MOST_REPEATS = 50


class LoadedPlan:
    """Lives on the GPU's thread; any thread may `run` it that has the GPU to itself.

    Loaded in steps, so that other engines have their turn in between: the memory at once, then
    each kernel by `add`, and the graph by `finish`. After a step that failed it is closed.

    Raises:
        DeviceError: it does not fit in memory.
    """

    def __init__(self, gpu: Gpu, plan: Loadable) -> None:
        self._gpu = gpu
        self._generation = gpu.generation
        self._plan = plan
        self._map = lay_out(plan, zero_copy=gpu.facts.has_zero_copy)
        self.device_bytes = self._map.device_bytes
        self._allocations: list[Any] = []
        self._functions: dict[Kernel, Any] = {}
        self._graphs: list[int] = []
        self._inputs: list[Array] = []
        self._outputs: list[Array] = []
        gpu.check(self._generation)
        gpu.adopt(self)
        self._step(self._reserve)

    def _step(self, work: Callable[[], None]) -> None:
        self._gpu.check(self._generation)
        try:
            work()
        except BaseException:
            self.close()
            raise

    def _reserve(self) -> None:
        gpu, plan, places = self._gpu, self._plan, self._map
        self._allocations.append(gpu.allocate(places.device_bytes))
        self._device = int(self._allocations[0])
        pinned = gpu.pin(places.host_bytes, mapped=places.is_zero_copy)
        self._allocations.append(pinned)
        self._host = gpu.mapped_address(pinned) if places.is_zero_copy else 0
        self._inputs = _slots(pinned, plan.inputs, places.inputs)
        self._outputs = _slots(pinned, plan.outputs, places.outputs)
        if plan.constants:
            gpu.upload(self._device + places.constants, plan.constants)
        if plan.scratch_bytes:
            gpu.zero(self._device + places.scratch, plan.scratch_bytes)

    def add(self, kernel: Kernel, cubin: bytes) -> None:
        """Load a kernel.

        Raises:
            DeviceError: the cubin is not for this GPU, or damaged.
        """

        def work() -> None:
            module = self._gpu.module(cubin)
            shared_bytes = kernel.dynamic_shared_bytes
            self._functions[kernel] = self._gpu.function(module, kernel.template, shared_bytes)
            self.device_bytes += len(cubin)

        self._step(work)

    def finish(self) -> None:
        """Make the graph, once all kernels are there.

        Raises:
            DeviceError: something that was uploaded did not arrive, or the graph does not fit.
        """

        def work() -> None:
            pinned = self._allocations[1]
            self._stream = self._gpu.stream()
            self._gpu.synchronize()
            graph = self._gpu.capture(self._stream, lambda: self._record(pinned))
            self._graphs.append(graph)

        self._step(work)

    def _record(self, pinned: Bytes) -> None:
        places, ports = self._map, self._device + self._map.ports
        if not places.is_zero_copy and places.input_bytes:
            self._gpu.copy_in(ports, pinned[: places.input_bytes], self._stream)
        for launch in self._plan.launches:
            self._launch(launch)
        if not places.is_zero_copy and places.host_bytes > places.input_bytes:
            results = pinned[places.input_bytes :]
            self._gpu.copy_out(results, ports + places.input_bytes, self._stream)

    def _launch(self, launch: Launch) -> None:
        addresses = [self._map.address(p, self._device, self._host) for p in launch.pointers]
        self._gpu.launch(self._functions[launch.kernel], launch, addresses, self._stream)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once; values of the ports' shapes and types in, copies out, each in the plan's order.

        Raises:
            DeviceError: a kernel failed, or the context is lost.
        """
        self._gpu.check(self._generation)
        for slot, value in zip(self._inputs, inputs, strict=True):
            slot[...] = value
        self._gpu.replay(self._graphs[0], self._stream)
        return [slot.copy() for slot in self._outputs]

    def run_eagerly(self, inputs: Sequence[Array]) -> list[Array]:
        """Do what `run` does launch by launch, on the GPU's thread: what the graph saves.

        Raises:
            DeviceError: as `run`.
        """
        self._gpu.check(self._generation)
        for slot, value in zip(self._inputs, inputs, strict=True):
            slot[...] = value
        self._record(self._allocations[1])
        self._gpu.synchronize()
        return [slot.copy() for slot in self._outputs]

    def microseconds(self, launches: Sequence[Launch]) -> float:
        """Time some of the plan's launches by the GPU's clock, on what lies in memory.

        They are repeated as a graph that takes about a millisecond, for a launch from here costs
        more than a small kernel takes: the least mean of some such graphs. From the second time on
        what a small kernel reads lies in the cache.

        Raises:
            DeviceError: as `run`.
        """
        self._gpu.check(self._generation)
        once = self._least_milliseconds(launches, repeats=1, runs=2)
        repeats = max(1, min(MOST_REPEATS, int(TIMED_MS / max(once, 1e-6))))
        return self._least_milliseconds(launches, repeats, TIMED_RUNS) * 1e3 / repeats

    def _least_milliseconds(self, launches: Sequence[Launch], repeats: int, runs: int) -> float:
        def record() -> None:
            for _ in range(repeats):
                for launch in launches:
                    self._launch(launch)

        graph = self._gpu.capture(self._stream, record)
        self._graphs.append(graph)
        least = min(self._gpu.time_replay(graph, self._stream) for _ in range(runs))
        self._graphs.remove(graph)
        self._gpu.destroy(graph)
        return least

    def close(self) -> None:
        """Free everything, on the GPU's thread; once more does nothing.

        In a lost context nothing can be freed: all of it goes with the context, and later.
        """
        if not self._gpu.has(self._generation):
            return
        self._gpu.release(self)
        graphs, allocations = self._graphs, self._allocations
        self.abandon()
        for graph in graphs:
            self._gpu.destroy(graph)
        for allocation in allocations:
            self._gpu.free(allocation)

    def destroy_graphs(self) -> None:
        """Destroy the graphs in a lost context, which does not take them along."""
        graphs, self._graphs = self._graphs, []
        for graph in graphs:
            with contextlib.suppress(DeviceError):  # of the context, not of the graph
                self._gpu.destroy(graph)

    def abandon(self) -> None:
        """Drop what was loaded; modules unload if their context still is.

        Arrays over pinned memory go first: without its context it is not there.
        """
        self._inputs, self._outputs = [], []
        self._graphs, self._allocations = [], []
        self._functions.clear()
        self._stream = None


def load(owner: OwnerThread[Gpu], plan: Loadable, cubins: Mapping[Kernel, bytes]) -> LoadedPlan:
    """Load a plan from any thread, step by step.

    Raises:
        DeviceError: as the steps.
        EngineError: the GPU's thread does not run.
    """
    loaded = owner.call(lambda gpu: LoadedPlan(gpu, plan))
    for step in _steps(loaded, plan, cubins):
        owner.call(functools.partial(_do, step))
    return loaded


def load_at_once(gpu: Gpu, plan: Loadable, cubins: Mapping[Kernel, bytes]) -> LoadedPlan:
    """Load a plan on the GPU's thread.

    Raises:
        DeviceError: as the steps.
    """
    loaded = LoadedPlan(gpu, plan)
    for step in _steps(loaded, plan, cubins):
        step()
    return loaded


def _steps(
    loaded: LoadedPlan, plan: Loadable, cubins: Mapping[Kernel, bytes]
) -> Iterator[Callable[[], None]]:
    for kernel in dict.fromkeys(launch.kernel for launch in plan.launches):
        yield functools.partial(loaded.add, kernel, cubins[kernel])
    yield loaded.finish


def _do(step: Callable[[], None], _: Gpu) -> None:
    step()


def _slots(pinned: Bytes, ports: Sequence[Port], offsets: Sequence[int]) -> list[Array]:
    return [
        pinned[offset : offset + port.size].view(port.datatype).reshape(port.shape)
        for port, offset in zip(ports, offsets, strict=True)
    ]
