"""The kernels of a plan -> their cubins and what each occupies; cached, several at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from edgeq.engines.cuda.compiling import nvrtc
from edgeq.engines.cuda.compiling.cache import CubinCache, cubin_key
from edgeq.engines.cuda.compiling.cubin import Resources, read_resources
from edgeq.engines.cuda.compiling.nvrtc import Compiler
from edgeq.engines.cuda.compiling.render import render
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError

Progress = Callable[[int, int], None]  # kernels done, of how many


@dataclass(frozen=True)
class CompiledKernel:
    """One kernel's cubin; its entry point has the template's name."""

    kernel: Kernel
    image: bytes
    resources: Resources
    seconds: float  # in the compiler; 0 where the cubin came from the cache
    log: str = ""  # what the compiler had to say; "" too where the cubin came from the cache


@dataclass(frozen=True)
class Compilation:
    """All kernels of a plan, compiled for one target by one compiler."""

    kernels: Mapping[Kernel, CompiledKernel]
    target: Target
    compiler: str  # as in 'NVRTC 12.9'
    cache_problem: str  # why cubins were not kept; "" where they were, or no cache was given

    def spilling(self) -> tuple[CompiledKernel, ...]:
        """Return the kernels whose threads keep registers in memory: slow ones."""
        return tuple(k for k in self.kernels.values() if k.resources.stack_bytes)


def compile_all(
    kernels: Iterable[Kernel],
    target: Target,
    *,
    compiler: Compiler | None = None,
    cache: CubinCache | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> Compilation:
    """Compile each different kernel once.

    ctypes lets go of the interpreter during a call and NVRTC 12.9 holds no lock over a whole
    compilation (30 small ones ended during one of 1.4 s), so threads do, and no processes.

    Args:
        threads: at once; 0: as many as this process may use.
        progress: called on the caller's thread, once for each kernel.

    Raises:
        EngineError: no compiler for the target, or it refuses a kernel.
    """
    wanted = list(dict.fromkeys(kernels))
    work = _Work(target, compiler or nvrtc.find_compiler(target), cache)
    count = threads or len(os.sched_getaffinity(0))
    done = _run(work, wanted, min(count, max(1, len(wanted))), progress)
    if cache:
        cache.trim()
    ordered = {kernel: done[kernel][0] for kernel in wanted}
    problems = [problem for _, problem in done.values() if problem]
    version = work.compiler.version
    return Compilation(
        ordered, target, f"NVRTC {version[0]}.{version[1]}", problems[0] if problems else ""
    )


@dataclass(frozen=True)
class _Work:
    target: Target
    compiler: Compiler
    cache: CubinCache | None
    options: Sequence[str] = nvrtc.OPTIONS

    def compile(self, kernel: Kernel) -> tuple[CompiledKernel, str]:
        """Return the kernel from the cache or the compiler, and why it could not be kept."""
        source = render(kernel)
        key = cubin_key(source, self.options, self.target.name, self.compiler.version)
        image = self.cache.load(key) if self.cache else None
        if image:
            return _compiled(kernel, image), ""
        started = time.perf_counter()
        name = f"{kernel.template}.cu"
        made = self.compiler.compile(source, self.target, "cubin", self.options, name)
        compiled = _compiled(kernel, made.image, time.perf_counter() - started, made.log)
        return compiled, self.cache.store(key, made.image) if self.cache else ""


def _compiled(kernel: Kernel, image: bytes, seconds: float = 0.0, log: str = "") -> CompiledKernel:
    resources = read_resources(image)
    if kernel.template not in resources:
        raise EngineError(
            f"the cubin of {kernel.template}.cu has the kernels {sorted(resources)}, "
            f"not {kernel.template}"
        )
    return CompiledKernel(kernel, image, resources[kernel.template], seconds, log)


def _run(
    work: _Work, kernels: Sequence[Kernel], threads: int, progress: Progress | None
) -> dict[Kernel, tuple[CompiledKernel, str]]:
    done: dict[Kernel, tuple[CompiledKernel, str]] = {}
    stop = threading.Event()

    def step(kernel: Kernel) -> tuple[CompiledKernel, str] | None:
        return None if stop.is_set() else work.compile(kernel)

    with ThreadPoolExecutor(threads, thread_name_prefix="nvrtc") as pool:
        futures = {pool.submit(step, kernel): kernel for kernel in kernels}
        try:
            for future in as_completed(futures):
                if (result := future.result()) is not None:
                    done[futures[future]] = result
                if progress:
                    progress(len(done), len(kernels))
        finally:
            stop.set()  # after an error nothing more is begun
    return done
