"""An INT8 model and a target -> its kernels: as a bundle keeps them, and as the engine takes them.

A bundle keeps which choice carries out each node, and the cubins by their source. The plans are
made again at each load, from the INT8 model: that takes milliseconds, and nothing can disagree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.engines.base import PLAN_TEXT, Files
from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.compiling.compile import CompiledKernel
from edgeq.engines.cuda.compiling.render import render
from edgeq.engines.cuda.engine import CpuSection, CudaModel, GpuSection, Section
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.lowering.partition import GpuPart, Partition, partition
from edgeq.engines.cuda.planning.plan import Candidates, Pick, Plan, make_plan
from edgeq.engines.cuda.planning.plan_text import plan_text
from edgeq.engines.cuda.targets import Target
from edgeq.errors import EngineError
from edgeq.tflite.model import Model

FORMAT = 1
INDEX = "cuda/package.json"
BUILD_AGAIN = "Build the bundle again from its float model."

Cubins = Mapping[Kernel, bytes]


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model cut into parts, and a plan for each part that the GPU runs, in their order."""

    content: bytes
    target: Target
    partition: Partition
    plans: tuple[Plan, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Return each kernel of all plans once."""
        return tuple(dict.fromkeys(kernel for plan in self.plans for kernel in plan.kernels))


@dataclass(frozen=True)
class Origin:
    """Where kernels come from, as the manifest tells."""

    compiler: str  # e.g. 'NVRTC 12.9'
    tuned: bool  # on a device
    reason: str = ""  # why not
    gpu: str = ""  # that it was tuned and proven on, as its driver names it
    driver: str = ""  # e.g. '12.6'; "" for both where it was made for another box


@dataclass(frozen=True, eq=False)
class Package:
    """A planned model with its kernels, compiled."""

    planned: PlannedModel
    kernels: Mapping[Kernel, CompiledKernel]
    origin: Origin

    def files(self) -> dict[str, bytes]:
        """Return what a bundle keeps, by file name."""
        names = {kernel: cubin_name(kernel) for kernel in self.planned.kernels}
        index = {
            "format": FORMAT,
            "target": self.planned.target.name,
            "compiler": self.origin.compiler,
            "tuned": self.origin.tuned,
            "tuning": self.origin.reason,
            "choices": [[step.choice for step in plan.steps] for plan in self.planned.plans],
            "kernels": sorted(names.values()),
        }
        cubins = {name: self.kernels[kernel].image for kernel, name in names.items()}
        return {INDEX: json.dumps(index, indent=1).encode(), PLAN_TEXT: self._text(), **cubins}

    def _text(self) -> bytes:
        resources = {kernel: own.resources for kernel, own in self.kernels.items()}
        return "\n".join(plan_text(plan, resources) for plan in self.planned.plans).encode()

    def details(self) -> dict[str, Any]:
        """Return what the manifest says of the engine."""
        plans = self.planned.plans
        return {
            "target": self.planned.target.name,
            "compiler": self.origin.compiler,
            "tuned": self.origin.tuned,
            "tuning": self.origin.reason,
            **({"gpu": self.origin.gpu, "driver": self.origin.driver} if self.origin.gpu else {}),
            "kernels": len(self.planned.kernels),
            "launches": sum(len(plan.launches) for plan in plans),
            "gpu_parts": len(plans),
            "gpu_ops": sum(len(part.ops) for part in gpu_parts(self.planned.partition)),
            "cpu_ops": [
                {"index": own.position, "name": own.op, "reason": own.reason}
                for own in self.planned.partition.reasons
            ],
        }


def plan_model(content: bytes, target: Target, pick: Callable[[int], Pick]) -> PlannedModel:
    """Cut an INT8 model into parts and plan those of the GPU.

    Args:
        content: the INT8 .tflite.
        target: the GPU it is for.
        pick: gives what chooses the kernels of the plan with this number.

    Raises:
        EngineError: an extent other than the batch is free, or the GPU has nothing to do.
    """
    parted = partition(Model.from_bytes(content), confirmed=True)
    parts = list(gpu_parts(parted))
    if not parts:
        reasons = sorted({own.reason for own in parted.reasons})
        raise EngineError(
            f"the GPU has nothing to do: {'; '.join(reasons[:5])}",
            hint="Use backend 'cpu' for this model.",
        )
    plans = tuple(make_plan(part.program, target, pick(n)) for n, part in enumerate(parts))
    return PlannedModel(content, target, parted, plans)


def gpu_parts(parted: Partition) -> Iterator[GpuPart]:
    """Yield the parts that the GPU runs."""
    return (part for part in parted.parts if isinstance(part, GpuPart))


def as_model(planned: PlannedModel, cubins: Cubins) -> CudaModel:
    """Return what the engine loads; values are numbered by their names."""
    model = Model.from_bytes(planned.content)
    names = model.names()
    numbers: dict[str, int] = {}

    def numbered(wanted: Sequence[str]) -> tuple[int, ...]:
        return tuple(numbers.setdefault(name, len(numbers)) for name in wanted)

    inputs = numbered([names[tensor] for tensor in model.inputs])
    plans, sections = iter(planned.plans), list[Section]()
    for part in planned.partition.parts:
        ends = numbered(part.inputs), numbered(part.outputs)
        if isinstance(part, GpuPart):
            plan = next(plans)
            sections.append(GpuSection(*ends, plan, {k: cubins[k] for k in plan.kernels}))
        else:
            sections.append(CpuSection(*ends, part.content))
    outputs = numbered([names[tensor] for tensor in model.outputs])
    return CudaModel(planned.content, inputs, outputs, tuple(sections))


def cubin_name(kernel: Kernel) -> str:
    """Return the name of a kernel's cubin in a bundle: the digest of its source."""
    return f"cuda/{kernel.template}-{hashlib.sha256(render(kernel).encode()).hexdigest()}.cubin"


@dataclass(frozen=True)
class Kept:
    """What a bundle's index says."""

    target: Target
    origin: Origin
    choices: tuple[tuple[str, ...], ...]  # of each plan

    @classmethod
    def read(cls, files: Files) -> Kept | None:
        """Read the index; None where the bundle was built without the GPU.

        Raises:
            EngineError: it is damaged, or of a newer format.
        """
        content = files(INDEX)
        if content is None:
            return None
        try:
            index = json.loads(content)
            if index["format"] > FORMAT:
                raise EngineError(
                    f"{INDEX} has format {index['format']}; this edgeq reads up to {FORMAT}",
                    hint="Update edgeq, or build the bundle again with this one.",
                )
            origin = Origin(index["compiler"], index["tuned"], index["tuning"])
            choices = tuple(tuple(map(str, names)) for names in index["choices"])
            return cls(Target.parse(index["target"]), origin, choices)
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{INDEX} is damaged: {error!r}", hint=BUILD_AGAIN) from error

    def pick(self, number: int) -> Pick:
        """Return what chooses as it was chosen then; what an update renamed is chosen anew."""
        names = iter(self.choices[number] if number < len(self.choices) else ())

        def pick(candidates: Candidates) -> Choice:
            name = next(names, "")
            return next((c for c in candidates.choices if c.name == name), candidates.choices[0])

        return pick


def kept_cubins(kernels: Sequence[Kernel], files: Files) -> dict[Kernel, bytes]:
    """Return the cubins that a bundle has; those of an older edgeq's sources are not among them."""
    found = {kernel: files(cubin_name(kernel)) for kernel in kernels}
    return {kernel: image for kernel, image in found.items() if image is not None}
