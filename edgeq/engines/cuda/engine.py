"""An INT8 model, cut into sections with their kernels -> the Engine that runs it on the GPU.

After an error of the GPU the engine goes on: the CPU engine answers, from the same INT8 model and
bit for bit alike, while the kernels are loaded again, in a new context where the old one is lost;
after a second error it answers for good.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from edgeq.engines.base import EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.cuda.gpu.context import Gpu, shared_gpu
from edgeq.engines.cuda.gpu.faults import CONTEXT_IS_DESTROYED, UNUSABLE_IMAGE
from edgeq.engines.cuda.gpu.gpu_thread import Call, OwnerThread
from edgeq.engines.cuda.gpu.loaded import LoadedPlan, load, load_at_once
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.planning.plan import Plan
from edgeq.errors import DeviceError, EdgeqError, EngineError
from edgeq.tflite.runtime import Runner, ordered_inputs

Array = npt.NDArray[Any]
Cubins = Mapping[Kernel, bytes]

REBUILDS = 1  # of an engine: what fails twice has a cause that stays


@dataclass(frozen=True, eq=False)
class GpuSection:
    """Ops that run on the GPU; values by their number in the model, in the order of the plan's."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    plan: Plan
    cubins: Cubins


@dataclass(frozen=True, eq=False)
class CpuSection:
    """Ops that run on the CPU, as a model of their own; values as its inputs and outputs."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    content: bytes


Section = GpuSection | CpuSection


@dataclass(frozen=True, eq=False)
class CudaModel:
    """An INT8 model as the GPU's engine takes it; `inputs` and `outputs` as the model's."""

    content: bytes  # the whole model, which the CPU runs where the GPU cannot
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    sections: tuple[Section, ...]  # in the order in which they run


class CudaEngine:
    """Runs the sections in turn; frees what it holds on `close`, which waits for an inference.

    Args:
        model: with the kernels compiled for this box's GPU.
        threads: how many CPU threads the sections on the CPU may use.
        recompile: makes the cubins anew, once, where the driver refuses those of the model.
        owner: of the GPU; engines of one process share one.

    Raises:
        EngineError: no GPU, driver or pycuda; too little memory; a model that the runtime refuses.
    """

    def __init__(
        self,
        model: CudaModel,
        *,
        threads: int = 1,
        recompile: Callable[[Plan], Cubins] | None = None,
        owner: OwnerThread[Gpu] | None = None,
    ) -> None:
        self._model = model
        self._threads = threads
        self._owner = owner or shared_gpu()
        self._use = threading.Lock()  # an engine is nobody's while it is closed
        self._is_closed = False
        self._sections = list(model.sections)
        self._runners: dict[int, Runner] = {}  # by section
        self._plans: dict[int, LoadedPlan] = {}
        self._fallback: CpuEngine | None = None
        self._rebuilding: Call[dict[int, LoadedPlan]] | None = None
        self._failures = 0
        self.fault = ""  # why the CPU answers; "" where the GPU does
        with contextlib.closing(Runner(model.content, threads=threads)) as runner:
            self.inputs, self.outputs = runner.inputs, runner.outputs
        self._owner.acquire()
        try:
            self._load(recompile)
        except BaseException:
            self.close()
            raise

    @property
    def kind(self) -> EngineKind:
        """Who gave the last answer, or gives the first: the GPU, or the CPU in its place."""
        return "cuda-int8" if self._fallback is None else "cpu-int8"

    @property
    def device_bytes(self) -> int:
        """What it takes of the GPU's memory, kernels included."""
        return sum(plan.device_bytes for plan in self._plans.values())

    def _load(self, recompile: Callable[[Plan], Cubins] | None) -> None:
        self._owner.call(_recover)
        for position, section in enumerate(self._sections):
            if isinstance(section, CpuSection):
                self._runners[position] = Runner(section.content, threads=self._threads)
                continue
            try:
                self._plans[position] = load(self._owner, section.plan, section.cubins)
            except DeviceError as error:
                if recompile is None or error.code not in UNUSABLE_IMAGE:
                    raise
                made = replace(section, cubins=recompile(section.plan))
                self._plans[position] = load(self._owner, made.plan, made.cubins)
                self._sections[position] = made

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; errors as `Runner.run`."""
        with self._use:
            if self._is_closed:
                raise EngineError("the engine is closed")
            values = ordered_inputs(self.inputs, inputs)
            self._take_rebuilt()
            if self._fallback is None:
                try:
                    return self._run(values)
                except DeviceError as error:
                    self._fall_back(error)
            return self._on_cpu().infer(inputs)

    def _run(self, inputs: Sequence[Array]) -> dict[str, Array]:
        known = dict(zip(self._model.inputs, inputs, strict=True))
        for position, section in enumerate(self._sections):
            given = [known[value] for value in section.inputs]
            made = self._run_section(position, given)
            known.update(zip(section.outputs, made, strict=True))
        results = (known[value] for value in self._model.outputs)
        return {spec.name: value for spec, value in zip(self.outputs, results, strict=True)}

    def _run_section(self, position: int, given: list[Array]) -> list[Array]:
        if position in self._plans:
            plan = self._plans[position]
            return self._owner.call_here(lambda _: plan.run(given))
        runner = self._runners[position]
        names = [spec.name for spec in runner.inputs]
        return list(runner.run(dict(zip(names, given, strict=True))).values())

    # ---- after an error of the GPU

    def _on_cpu(self) -> CpuEngine:
        if self._fallback is None:
            self._fallback = CpuEngine(self._model.content, "cpu-int8", threads=self._threads)
        return self._fallback

    def _fall_back(self, error: DeviceError) -> None:
        """Go on with the CPU, and have the GPU's part rebuilt if that may help.

        A context that another engine lost is no failure of this one.
        """
        self._on_cpu()
        self._failures += error.code != CONTEXT_IS_DESTROYED
        if self._failures > REBUILDS:
            self._give_up(f"{error.message}; not for the first time: the CPU serves from now on")
            return
        self.fault = f"{error.message}; the CPU serves until the kernels are loaded again"
        failed, self._plans = self._plans, {}
        self._rebuilding = self._owner.submit(lambda gpu: self._rebuild(gpu, failed))

    def _give_up(self, reason: str) -> None:
        """Stay with the CPU; others get a context that works, if there can be one."""
        self._failures = REBUILDS + 1
        self.fault = reason
        failed, self._plans = self._plans, {}
        self._owner.submit(lambda gpu: _retire(gpu, failed))

    def _rebuild(self, gpu: Gpu, failed: Mapping[int, LoadedPlan]) -> dict[int, LoadedPlan]:
        _retire(gpu, failed)
        plans: dict[int, LoadedPlan] = {}
        try:
            for position, section in enumerate(self._sections):
                if isinstance(section, GpuSection):
                    plans[position] = load_at_once(gpu, section.plan, section.cubins)
        except BaseException:
            _close_all(gpu, plans)
            raise
        return plans

    def _take_rebuilt(self) -> None:
        call = self._rebuilding
        if call is None or not call.is_done:
            return
        self._rebuilding = None
        try:
            self._plans = call.result()
        except EdgeqError as error:
            self._give_up(
                f"the GPU cannot be used again: {error.message}; the CPU serves from now on"
            )
            return
        self.fault = ""
        if self._fallback is not None:
            self._fallback.close()
            self._fallback = None

    def close(self) -> None:
        """Free what it holds, once an inference of another thread has ended.

        Raises:
            DeviceError: the GPU failed meanwhile; everything is freed as far as that is possible.
        """
        with self._use, contextlib.ExitStack() as ending:
            if self._is_closed:
                return
            self._is_closed = True
            ending.callback(self._owner.release)
            for owned in (*self._runners.values(), self._fallback):
                if owned is not None:
                    ending.callback(owned.close)
            if self._owner.is_running:  # else the interpreter ends, and has freed all
                self._await_rebuilt()
                plans, self._plans = self._plans, {}
                self._owner.call(lambda gpu: _close_all(gpu, plans))

    def _await_rebuilt(self) -> None:
        if self._rebuilding is not None:
            with contextlib.suppress(EdgeqError):  # then there is nothing to free
                self._plans = self._rebuilding.result()
            self._rebuilding = None


def _recover(gpu: Gpu) -> None:
    """Make a lost context anew."""
    if gpu.lost_by is not None:
        gpu.renew()


def _retire(gpu: Gpu, plans: Mapping[int, LoadedPlan]) -> None:
    """Free plans that failed, with their context if that is lost."""
    _recover(gpu)
    _close_all(gpu, plans)


def _close_all(_: Gpu, plans: Mapping[int, LoadedPlan]) -> None:
    for plan in plans.values():
        plan.close()
