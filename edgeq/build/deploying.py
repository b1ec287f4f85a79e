"""An INT8 form that passed the gate -> the backend that serves it, measured on this box.

The gate is passed on the CPU engine, whose answers every other backend must give. A build for
another box ends there: the GPU's kernels are made for the target, and its first load on that box
is held to the golden answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgeq.build.forms import quantized_form
from edgeq.build.gate import LATENCY_INPUTS, Gated, pass_gate, verified_as
from edgeq.build.layers import refined_as
from edgeq.build.work import Work
from edgeq.engines import latency
from edgeq.engines.base import Engine
from edgeq.engines.latency import Latency
from edgeq.engines.table import CPU, CUDA, Backend, Made, Wish, usable_backends
from edgeq.errors import EngineError, GateError


@dataclass(frozen=True)
class Deployed:
    """What serves the model, and what was measured.

    `kind` is the engine that the bundle is for: that of `gated` unless it is for another box.
    """

    backend: str
    kind: str
    gated: Gated
    latency: tuple[Latency, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def contenders(requested: str, target: str) -> tuple[Backend, ...]:
    """Return the backends to build for; a target is for another box, and of a GPU.

    Raises:
        EngineError: the backend is unknown or not usable here, or has no targets.
    """
    if not target:
        return usable_backends(requested)
    if requested not in ("auto", CUDA.name):
        raise EngineError(
            f"backend {requested!r} has no targets; --target {target} is a GPU's",
            hint="Leave --target out, or take --backend cuda.",
        )
    return (CUDA,)


def deploy(
    work: Work,
    gated: Gated,
    reference: Engine,
    backends: tuple[Backend, ...],
    engines: contextlib.ExitStack,
) -> Deployed:
    """Make the model for each backend; return the fastest that the gate lets pass.

    Raises:
        EngineError: the only backend asked for cannot be made or loaded.
        GateError: its answers are not the float model's.
    """
    if work.options.target:
        return _for_another_box(work, gated, reference)
    found: list[Deployed] = []
    refused: dict[str, str] = {}
    for backend in backends:
        try:
            found.append(_deployed(work, gated, reference, backend, engines))
        except (EngineError, GateError) as error:
            if len(backends) == 1:
                raise
            refused[backend.name] = error.message
    timed = _timed(work, gated, reference, found)
    best = min(range(len(found)), key=lambda i: timed[len(timed) - len(found) + i].p50_ms)
    details = {**found[best].details, **({"refused": refused} if refused else {})}
    chosen = found[best]
    return Deployed(chosen.backend, chosen.kind, chosen.gated, timed, chosen.files, details)


def served_by_cpu(
    work: Work, deployed: Deployed, reference: Engine, engines: contextlib.ExitStack
) -> Deployed:
    """Return what the CPU serves after all without the INT8 kernels that it alone is slow in.

    Raises:
        EngineError, GateError: as `pass_gate`.
    """
    made, own = deployed.gated.made, replace(work, every_kernel=False)
    if deployed.backend != CPU.name or not work.every_kernel or made.ranges is None:
        return deployed
    plain = quantized_form(own, made.source, made.ranges)
    if plain.int8_ops == quantized_form(work, made.source, made.ranges).int8_ops:
        return deployed
    form = made.with_form(plain.model, plain.float_ops)
    form = replace(form, int8=refined_as(own, form, made.refined) or form.int8)
    passed = pass_gate(own, form, reference, engines)
    again = deploy(own, passed, reference, (CPU,), engines)
    others = tuple(figure for figure in deployed.latency if figure.engine == "cuda-int8")
    return replace(again, latency=(*again.latency, *others), details=deployed.details)


def _deployed(
    work: Work,
    gated: Gated,
    reference: Engine,
    backend: Backend,
    engines: contextlib.ExitStack,
) -> Deployed:
    if backend.name == CPU.name:
        return Deployed(backend.name, gated.engine.kind, gated, ())
    content = gated.made.int8.to_bytes()
    made = _made(work, content, backend)
    work.stages.begin("engine")
    engine = backend.load(content, work.options.threads, made.files.get)
    engines.enter_context(contextlib.closing(engine))
    proven = verified_as(work, gated, reference, engine, backend)
    if not proven.verdict.passed:
        raise GateError(
            f"the {engine.kind} engine was refused: {'; '.join(proven.verdict.reasons)}",
            hint="Run `edgeq doctor`; build with --backend cpu meanwhile.",
            verdict=proven.verdict.as_dict(),
        )
    return Deployed(backend.name, engine.kind, proven, (), made.files, made.details)


def _made(work: Work, content: bytes, backend: Backend) -> Made:
    """Compile, and tune where there is a device."""
    begun: set[str] = set()

    def tick(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            work.stages.begin(stage, total)
        work.stages.tick(done)

    return backend.make(
        content,
        Wish(
            work.options.target,
            work.options.threads,
            work.options.tune,
            compiled=lambda done, total: tick("compile", done, total),
            tuned=lambda done, total: tick("tune", done, total),
        ),
    )


def _for_another_box(work: Work, gated: Gated, reference: Engine) -> Deployed:
    made = _made(work, gated.made.int8.to_bytes(), CUDA)
    timed = _timed(work, gated, reference, [Deployed(CPU.name, gated.engine.kind, gated, ())])
    details = {**made.details, "proven_by": gated.engine.kind}
    return Deployed(CUDA.name, "cuda-int8", gated, timed, made.files, details)


def _timed(
    work: Work, gated: Gated, reference: Engine, found: list[Deployed]
) -> tuple[Latency, ...]:
    """Time the float model, unless the model arrived INT8, and every engine in turns."""
    work.stages.begin("latency")
    own = [deployed.gated.engine for deployed in found]
    # An INT8 model's reference kernels serve nobody: their time says nothing.
    timed = own if gated.made.ranges is None else [reference, *own]
    return tuple(latency.measure(timed, gated.inputs[:LATENCY_INPUTS]))
