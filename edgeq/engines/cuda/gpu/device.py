"""The GPU of this box -> what it is, and pycuda to work with it: the only importer of pycuda."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from types import ModuleType

from edgeq.engines.cuda.gpu.driver import INSTALL_HINT, Driver
from edgeq.engines.cuda.gpu.faults import code_of, device_error
from edgeq.engines.cuda.targets import Target
from edgeq.errors import DeviceError, EngineError

ORDINAL = 0  # CUDA_VISIBLE_DEVICES says which GPU that is

# From Xavier on the CPU's caches follow what the GPU writes; on the Nano and the TX2 pinned memory
# is not cached at all, and kernels that work on it crawl (CUDA for Tegra, section 3).
ZERO_COPY_SINCE = 72


@dataclass(frozen=True)
class DeviceFacts:
    """What the GPU is."""

    name: str
    target: Target
    multiprocessors: int
    memory_bytes: int
    is_integrated: bool
    driver: tuple[int, int]  # the CUDA version that the driver has

    @property
    def has_zero_copy(self) -> bool:
        """Say whether kernels should read inputs and write outputs in the host's memory."""
        return self.is_integrated and self.target.sm >= ZERO_COPY_SINCE


def facts() -> DeviceFacts:
    """Ask the driver what the GPU is; needs no context.

    Raises:
        EngineError: no pycuda, no driver, no GPU, or one that kernels cannot be made for.
    """
    cuda, driver = pycuda_driver(), Driver.open()
    try:
        cuda.init()
        device = cuda.Device(ORDINAL)
        major, minor = device.compute_capability()
        kinds, version = cuda.device_attribute, cuda.get_driver_version()
        count = device.get_attribute(kinds.MULTIPROCESSOR_COUNT)
        return DeviceFacts(
            name=device.name(),
            target=replace(Target.parse(f"sm_{major}{minor}"), multiprocessors=count),
            multiprocessors=count,
            memory_bytes=device.total_memory(),
            is_integrated=bool(device.get_attribute(kinds.INTEGRATED)),
            driver=(version // 1000, version % 1000 // 10),
        )
    except cuda.Error as error:
        raise translated(error, driver) from error


@functools.cache
def pycuda_driver() -> ModuleType:
    """Import pycuda's binding of the driver.

    Raises:
        EngineError: it is not installed, or does not fit the driver.
    """
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        raise EngineError(
            f"pycuda is not installed: {error}", hint="`pip install pycuda`; it is compiled."
        ) from error
    except ImportError as error:
        raise EngineError(
            f"pycuda does not load: {error}",
            hint=INSTALL_HINT
            if "libcuda.so" in str(error)
            else "Build pycuda again with the CUDA headers that this driver came with.",
        ) from error
    module: ModuleType = pycuda.driver
    return module


def translated(error: BaseException, driver: Driver) -> DeviceError:
    """Return the error for one of pycuda's, which tells the driver's words but not its code."""
    message, kind = str(error).strip(), type(error).__name__
    call, _, words = message.partition(" failed: ")
    return device_error(code_of(message, kind, driver.texts()), call, words.removesuffix(" -"))
