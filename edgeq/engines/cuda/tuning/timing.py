"""A plan, or the trial of a node, and its cubins -> its microseconds on this box's GPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from edgeq.engines.cuda.gpu.context import Gpu, shared_gpu
from edgeq.engines.cuda.gpu.gpu_thread import OwnerThread
from edgeq.engines.cuda.gpu.loaded import LoadedPlan, load_at_once
from edgeq.engines.cuda.gpu.memory import Loadable
from edgeq.engines.cuda.launch import Kernel

Cubins = Mapping[Kernel, bytes]
Result = TypeVar("Result")


@contextlib.contextmanager
def gpu_timer(
    owner: OwnerThread[Gpu] | None = None,
) -> Iterator[Callable[[Loadable, Cubins], float]]:
    """Hold the GPU while a plan is tuned; gives what times a trial's launches together.

    Raises:
        EngineError: no GPU, driver or pycuda.
    """
    owner = owner or shared_gpu()
    owner.acquire()
    try:
        yield functools.partial(time_together, owner)
    finally:
        owner.release()


def time_together(owner: OwnerThread[Gpu], plan: Loadable, cubins: Cubins) -> float:
    """Return the microseconds of all launches in their order.

    Raises:
        DeviceError: it cannot be loaded, or a kernel failed.
    """
    return owner.call(lambda gpu: _timed(gpu, plan, cubins, _all_of))


def time_each(owner: OwnerThread[Gpu], plan: Loadable, cubins: Cubins) -> tuple[float, ...]:
    """Return the microseconds of every launch.

    Raises:
        DeviceError: it cannot be loaded, or a kernel failed.
    """
    return owner.call(lambda gpu: _timed(gpu, plan, cubins, _each_of))


def _timed(
    gpu: Gpu,
    plan: Loadable,
    cubins: Cubins,
    measure: Callable[[LoadedPlan, Loadable], Result],
) -> Result:
    loaded = load_at_once(gpu, plan, cubins)
    try:
        return measure(loaded, plan)
    finally:
        loaded.close()


def _all_of(loaded: LoadedPlan, plan: Loadable) -> float:
    return loaded.microseconds(plan.launches)


def _each_of(loaded: LoadedPlan, plan: Loadable) -> tuple[float, ...]:
    return tuple(loaded.microseconds([launch]) for launch in plan.launches)
