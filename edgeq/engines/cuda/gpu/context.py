"""The GPU's primary context, and all that lives in it: memory, modules, streams, graphs.

A `Gpu` lives on one thread, that of `shared_gpu`, from its making to its end, and everything made
through it is freed there: pycuda leaks what is freed elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeq.engines.cuda.gpu.device import ORDINAL, facts, pycuda_driver, translated
from edgeq.engines.cuda.gpu.driver import Driver
from edgeq.engines.cuda.gpu.faults import CONTEXT_IS_DESTROYED, device_error
from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread
from edgeq.engines.cuda.launch import Launch
from edgeq.errors import DeviceError

Bytes = npt.NDArray[np.uint8]

# What a block may take without asking, on every GPU; more must be granted to the kernel.
SHARED_BYTES_FREE = 48 * 1024

NON_BLOCKING = 1  # cuda.h: CU_STREAM_NON_BLOCKING, which pycuda does not name


class Dependent(Protocol):
    """What lives in a context."""

    def close(self) -> None:
        """Free everything, on the GPU's thread."""

    def destroy_graphs(self) -> None:
        """Destroy what outlives a lost context; the driver may refuse."""

    def abandon(self) -> None:
        """Forget everything else: the context took it along, and none of it may be touched."""


@functools.cache
def shared_gpu() -> OwnerThread[Gpu]:
    """Return the thread that owns the GPU in this process; engines are its users."""
    return OwnerThread("edgeq-gpu", Gpu, Gpu.close)


class Gpu:
    """The primary context of the GPU, current to the thread that made it.

    Raises:
        EngineError: as `facts`; or there is no memory for a context.
    """

    def __init__(self) -> None:
        self.facts = facts()
        self.generation = 0  # how often the context was made anew
        self.lost_by: DeviceError | None = None  # the sticky error that ended the context
        self._cuda = pycuda_driver()
        self._driver = Driver.open()
        self._dependents: list[Dependent] = []
        self._checked = _Checked(self, self._cuda, self._driver)
        self._context: Any = None
        self._enter()

    def _enter(self) -> None:
        with self._checked:
            # Shared with other libraries of the process; a context of our own would be one more,
            # and would take theirs away (pycuda issue 285).
            self._context = self._cuda.Device(ORDINAL).retain_primary_context()
            self._context.push()
        self._handle = int(self._context.handle)

    def close(self) -> None:
        """Free what is left in the context, then let go of it."""
        if self.lost_by is None:
            for dependent in list(self._dependents):
                dependent.close()
        self._leave()

    def _leave(self) -> None:
        """Let go of the context and of what is left in it.

        This thread must not end while pycuda has one pushed on it. The driver's stack comes first,
        for a lost context may refuse: pycuda's detach never does. It takes the context off its own
        stack, and would leave a primary one on the driver's.
        """
        dependents, self._dependents = self._dependents, []
        for dependent in dependents:
            dependent.destroy_graphs()
        self._driver.pop_context()
        if self._context is not None:
            self._context.detach()
            self._context = None
        # Only now, in a dead context, does pycuda let go of its objects without a word.
        for dependent in dependents:
            dependent.abandon()

    def renew(self) -> None:
        """Make the context anew after a sticky error; whatever lived in it is gone.

        Raises:
            DeviceError: the GPU cannot be used by this process any more.
        """
        self._leave()
        self.generation += 1
        try:
            self._driver.reset(ORDINAL)  # for another library may hold it, broken as it is
        finally:
            self._enter()
        self.lost_by = None

    def adopt(self, dependent: Dependent) -> None:
        """Close `dependent` when the context ends, if it is still open."""
        self._dependents.append(dependent)

    def release(self, dependent: Dependent) -> None:
        """Forget a dependent that closed itself."""
        if dependent in self._dependents:
            self._dependents.remove(dependent)

    def has(self, generation: int) -> bool:
        """Say whether what was loaded in `generation` may still be used."""
        return self.lost_by is None and generation == self.generation

    def check(self, generation: int) -> None:
        """Make sure that what was loaded in `generation` may still be used.

        Raises:
            DeviceError: its context is lost.
        """
        if not self.has(generation):
            reason = self.lost_by.message if self.lost_by else "it was made anew"
            raise device_error(CONTEXT_IS_DESTROYED, "using the GPU's context", reason)

    # ---- what lives in the context; the handles are pycuda's, and nobody looks into them

    def allocate(self, size: int) -> Any:
        """Reserve bytes on the device; `int()` of the result is their address.

        Raises:
            DeviceError: they are not there.
        """
        with self._checked:
            return self._cuda.mem_alloc(size)

    def pin(self, size: int, *, mapped: bool) -> Bytes:
        """Reserve bytes of the host's memory that the GPU reaches by itself, zeroed.

        Args:
            mapped: kernels can work on them, at `mapped_address`.

        Raises:
            DeviceError: they are not there.
        """
        flags = self._cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        with self._checked:
            array: Bytes = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
        array[:] = 0
        return array

    def mapped_address(self, pinned: Bytes) -> int:
        """Return where kernels find pinned memory that is mapped."""
        base: Any = pinned.base
        with self._checked:
            return int(base.get_device_pointer())

    def free(self, allocation: Any) -> None:
        """Free memory of either kind; the array over pinned memory must not be touched again.

        Raises:
            DeviceError: the context is lost.
        """
        with self._checked:
            owner: Any = allocation.base if isinstance(allocation, np.ndarray) else allocation
            owner.free()

    def upload(self, address: int, content: bytes) -> None:
        """Copy bytes to the device."""
        with self._checked:
            self._cuda.memcpy_htod(address, content)

    def zero(self, address: int, size: int) -> None:
        """Fill memory of the device with zeros."""
        with self._checked:
            self._cuda.memset_d8(address, 0, size)

    def module(self, cubin: bytes) -> Any:
        """Load a cubin; it is unloaded when the last function of it is dropped.

        Raises:
            DeviceError: it is for another GPU, or damaged, or does not fit in memory.
        """
        with self._checked:
            return self._cuda.module_from_buffer(cubin)

    def function(self, module: Any, name: str, shared_bytes: int) -> Any:
        """Return a kernel of a module that may be launched with so much dynamic shared memory.

        Raises:
            DeviceError: there is no such kernel, or the GPU has not so much.
        """
        with self._checked:
            function = module.get_function(name)
            if shared_bytes > SHARED_BYTES_FREE:
                limit = self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                function.set_attribute(limit, shared_bytes)
            return function

    def stream(self) -> Any:
        """Return a new queue of work; uploads go to another, and must be waited for.

        Not a blocking one: its capture would spoil, and be spoilt by, what other libraries of the
        process put on the default stream meanwhile.
        """
        with self._checked:
            return self._cuda.Stream(NON_BLOCKING)

    def synchronize(self) -> None:
        """Wait for all work of the context.

        Raises:
            DeviceError: some of it failed.
        """
        with self._checked:
            self._cuda.Context.synchronize()

    def launch(self, function: Any, launch: Launch, addresses: Sequence[int], stream: Any) -> None:
        """Put one launch on a stream, its pointers being `addresses`."""
        kernel = launch.kernel
        with self._checked:
            function(
                *[np.uintp(address) for address in addresses],
                grid=launch.grid,
                block=(kernel.threads, 1, 1),
                shared=kernel.dynamic_shared_bytes,
                stream=stream,
            )

    def copy_in(self, address: int, pinned: Bytes, stream: Any) -> None:
        """Put a copy from pinned memory to the device on a stream."""
        with self._checked:
            self._cuda.memcpy_htod_async(address, pinned, stream)

    def copy_out(self, pinned: Bytes, address: int, stream: Any) -> None:
        """Put a copy from the device to pinned memory on a stream."""
        with self._checked:
            self._cuda.memcpy_dtoh_async(pinned, address, stream)

    def capture(self, stream: Any, record: Callable[[], None]) -> int:
        """Return the executable graph of what `record` puts on the stream.

        Raises:
            DeviceError: as `Driver.capture`.
        """
        with self._checked:
            return self._driver.capture(stream.handle, record)

    def replay(self, graph: int, stream: Any) -> None:
        """Run a graph and wait for its end; on any thread, if it holds the lock of the owner.

        Raises:
            DeviceError: it failed; after a sticky error the context is lost.
        """
        with self._checked:
            self._driver.replay(self._handle, graph, stream.handle)

    def time_replay(self, graph: int, stream: Any) -> float:
        """Run a graph, wait for its end; return its milliseconds by the GPU's own clock.

        Raises:
            DeviceError: as `replay`.
        """
        with self._checked:
            start, end = self._cuda.Event(), self._cuda.Event()
            start.record(stream)
            self._driver.launch(graph, stream.handle)
            end.record(stream)
            end.synchronize()
            return float(start.time_till(end))

    def destroy(self, graph: int) -> None:
        """Free an executable graph.

        Raises:
            DeviceError: the context is lost.
        """
        with self._checked:
            self._driver.destroy(graph)


class _Checked:
    """Raises the driver's errors as ours, and remembers the one that ends the context.

    A class, for it is on the way of every inference: a generator costs 2 us more.
    """

    def __init__(self, gpu: Gpu, cuda: ModuleType, driver: Driver) -> None:
        self._gpu = gpu
        self._cuda_error: type[Exception] = cuda.Error
        self._driver = driver

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        foreign = isinstance(error, self._cuda_error)
        ours = translated(error, self._driver) if foreign else error
        if isinstance(ours, DeviceError) and ours.is_sticky and self._gpu.lost_by is None:
            self._gpu.lost_by = ours
        if foreign:
            raise ours from error
