"""An INT8 model -> the package of its kernels, and the engine that runs it on this box's GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeq.engines.base import Engine, Files
from edgeq.engines.cuda.compiling.cache import CubinCache, default_folder
from edgeq.engines.cuda.compiling.compile import CompiledKernel, Progress, compile_all
from edgeq.engines.cuda.compiling.nvrtc import Compiler, find_compiler
from edgeq.engines.cuda.engine import CudaEngine
from edgeq.engines.cuda.gpu.device import DeviceFacts, facts
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.package import (
    Cubins,
    Kept,
    Origin,
    Package,
    as_model,
    kept_cubins,
    plan_model,
)
from edgeq.engines.cuda.planning.plan import Pick, first
from edgeq.engines.cuda.targets import Target
from edgeq.engines.cuda.tuning.remembered import DeviceIdentity, Remembered, read_power_mode
from edgeq.engines.cuda.tuning.timing import gpu_timer
from edgeq.engines.cuda.tuning.tune import Tuner

FOR_ANOTHER_BOX = "built for another box: the cost model chose"
NOT_WANTED = "not asked for: the cost model chose"
TUNINGS = "tuning.json"  # beside the kernels' cache


def make_package(
    content: bytes,
    target: str = "",
    *,
    threads: int = 1,
    tune: bool = True,
    compiled: Progress | None = None,
    tuned: Progress | None = None,
) -> Package:
    """Plan an INT8 model and compile its kernels; tune them where they are for this box.

    Args:
        content: the INT8 .tflite.
        target: of another box, e.g. 'sm_87'; "": this box's GPU.
        threads: that compile.
        tune: time the choices on this box's GPU.
        compiled: told how many kernels are compiled, of how many.
        tuned: told how many nodes are tuned, of how many.

    Raises:
        EngineError: no compiler for the target, no GPU here, or nothing for it to do.
    """
    if target:
        workshop = _Workshop(Target.parse(target), threads)
        return _estimated(content, workshop, compiled, FOR_ANOTHER_BOX)
    device = facts()
    workshop = _Workshop(device.target, threads, newest_major=device.driver[0])
    if not tune:
        estimated = _estimated(content, workshop, compiled, NOT_WANTED)
        return replace(estimated, origin=_on(device, estimated.origin))
    return _tuned(content, device, workshop, compiled, tuned)


def load_cuda(content: bytes, threads: int, files: Files) -> Engine:
    """Load an INT8 model on this box's GPU.

    The bundle's choices and cubins are taken where they are for this GPU. Whatever is missing, or
    refused by the driver, is compiled here.

    Raises:
        EngineError: no GPU, driver or pycuda; no compiler where one is needed; too little memory.
    """
    device, kept = facts(), Kept.read(files)
    of_this_gpu = kept is not None and kept.target == device.target

    def compile_here(kernels: Sequence[Kernel]) -> Cubins:
        if not kernels:
            return {}
        workshop = _Workshop(device.target, threads, newest_major=device.driver[0])
        return _images(workshop.compile(kernels))

    pick = kept.pick if kept is not None and of_this_gpu else (lambda _: first)
    planned = plan_model(content, device.target, pick)
    cubins = kept_cubins(planned.kernels, files) if of_this_gpu else {}
    missing = [kernel for kernel in planned.kernels if kernel not in cubins]
    model = as_model(planned, {**cubins, **compile_here(missing)})
    return CudaEngine(model, threads=threads, recompile=lambda plan: compile_here(plan.kernels))


class _Workshop:
    """A compiler for one target, with the cache of this user or service."""

    def __init__(self, target: Target, threads: int, newest_major: int | None = None) -> None:
        self.target = target
        self._threads = threads
        self._compiler: Compiler = find_compiler(target, newest_major=newest_major)
        self._cache = CubinCache(default_folder(os.environ))

    @property
    def version(self) -> str:
        """Return what compiles, as the manifest names it."""
        return f"NVRTC {self._compiler.version[0]}.{self._compiler.version[1]}"

    def compile(
        self, kernels: Sequence[Kernel], progress: Progress | None = None
    ) -> Mapping[Kernel, CompiledKernel]:
        """Return the cubin of each kernel and what it occupies."""
        done = compile_all(
            kernels,
            self.target,
            compiler=self._compiler,
            cache=self._cache,
            threads=self._threads,
            progress=progress,
        )
        return done.kernels


def _estimated(
    content: bytes, workshop: _Workshop, compiled: Progress | None, reason: str
) -> Package:
    planned = plan_model(content, workshop.target, lambda _: first)
    kernels = workshop.compile(planned.kernels, compiled)
    return Package(planned, kernels, Origin(workshop.version, False, reason))


def _on(device: DeviceFacts, origin: Origin) -> Origin:
    """Add the GPU that the kernels are proven on."""
    driver = f"{device.driver[0]}.{device.driver[1]}"
    return replace(origin, gpu=device.name, driver=driver)


def _tuned(
    content: bytes,
    device: DeviceFacts,
    workshop: _Workshop,
    compiled: Progress | None,
    tuned: Progress | None,
) -> Package:
    rough = plan_model(content, device.target, lambda _: first)
    workshop.compile(rough.kernels, compiled)  # what most nodes keep; the tuner finds it cached
    count = sum(len(plan.steps) for plan in rough.plans)
    with _tuner(workshop, device, lambda done: tuned(done, count) if tuned else None) as tuner:
        planned = plan_model(content, device.target, _same(tuner.pick))
        tuning = tuner.tuning()
    kernels = workshop.compile(planned.kernels)
    origin = Origin(workshop.version, tuning.tuned, tuning.reason)
    return Package(planned, kernels, _on(device, origin))


@contextlib.contextmanager
def _tuner(
    workshop: _Workshop, device: DeviceFacts, progress: Callable[[int], None]
) -> Iterator[Tuner]:
    identity = DeviceIdentity(
        device.name, device.multiprocessors, device.driver, read_power_mode(Path("/"))
    )
    remembered = Remembered.load(default_folder(os.environ) / TUNINGS)
    with gpu_timer() as timer:
        yield Tuner(device.target, identity, timer, workshop.compile, remembered, progress)


def _same(pick: Pick) -> Callable[[int], Pick]:
    return lambda _: pick


def _images(compiled: Mapping[Kernel, CompiledKernel]) -> dict[Kernel, bytes]:
    return {kernel: own.image for kernel, own in compiled.items()}
