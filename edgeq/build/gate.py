"""An INT8 form -> an engine that held-out samples prove, with ops float where it needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeq.build.layers import refined_as
from edgeq.build.mixed import MixedSearch, mixed_models
from edgeq.build.parts import parts_of
from edgeq.build.work import Inputs, Made, Work
from edgeq.calibrate.table import CalibrationTable
from edgeq.engines.base import Engine
from edgeq.engines.table import CPU, Backend, Wish, load_cpu, load_float
from edgeq.errors import GateError
from edgeq.quantize.convert import Quantized, quantize
from edgeq.samples.split import only
from edgeq.samples.store import Sample
from edgeq.tflite.model import Model
from edgeq.tflite.suppression import before_suppression
from edgeq.verify import Verdict, verify

LATENCY_INPUTS = 4


@dataclass(frozen=True)
class Gated:
    """A form, its engine, and the gate's answer; `inputs` are of some held-out samples."""

    made: Made
    engine: Engine
    verdict: Verdict
    inputs: list[Inputs]


def pass_gate(work: Work, made: Made, reference: Engine, engines: contextlib.ExitStack) -> Gated:
    """Return what the gate lets pass: the model as it is, or with the ops float that cost most.

    The engine is the CPU's, whose answers every other backend gives too: `edgeq.build.deploying`.

    Raises:
        EngineError: the runtime refuses the model.
        GateError: nothing passes.
    """
    expected = _comparable(made, work.model, reference, _float(work), engines)

    def verified(made: Made) -> Gated:
        work.stages.begin("engine")
        with contextlib.ExitStack() as own:
            engine = load_cpu(made.int8.to_bytes(), work.options.threads)
            own.enter_context(contextlib.closing(engine))
            judged = _comparable(made, made.int8, engine, _int8(work, CPU), own)
            gated = Gated(made, engine, *_verify(work, expected, judged))
            if gated.verdict.passed:
                engines.push(own.pop_all())
        return gated

    gated = verified(made)
    if gated.verdict.passed:
        return gated
    for mixed in _mixed(work, made, expected):
        second = verified(mixed)
        if second.verdict.passed:
            return second
    if work.keep is not None:
        work.keep("verdict.json", gated.verdict.to_json())
    raise GateError(
        f"the INT8 engine was refused: {'; '.join(gated.verdict.reasons)}",
        hint="Add samples like those in the field, or try another --method.",
        verdict=gated.verdict.as_dict(),
    )


def _float(work: Work) -> Callable[[Model], Engine]:
    return lambda model: load_float(model.to_bytes(), threads=work.options.threads)


def _int8(work: Work, backend: Backend) -> Callable[[Model], Engine]:
    def load(model: Model) -> Engine:
        content, threads = model.to_bytes(), work.options.threads
        files = backend.make(content, Wish(threads=threads, tune=False)).files
        return backend.load(content, threads, files.get)

    return load


def verified_as(
    work: Work, gated: Gated, reference: Engine, engine: Engine, backend: Backend
) -> Gated:
    """Judge another engine of a form that passed, on the same samples."""
    made = gated.made
    with contextlib.ExitStack() as own:
        expected = _comparable(made, work.model, reference, _float(work), own)
        judged = _comparable(made, made.int8, engine, _int8(work, backend), own)
        return Gated(made, engine, *_verify(work, expected, judged))


def _comparable(
    made: Made,
    model: Model,
    engine: Engine,
    load: Callable[[Model], Engine],
    engines: contextlib.ExitStack,
) -> Engine:
    """Return an engine whose outputs can be compared place by place: mostly the one given.

    A model that arrived as INT8 differs from its reference kernels by a rounding at most.
    """
    opened = before_suppression(model)
    if opened is model or made.ranges is None:
        return engine
    return engines.enter_context(contextlib.closing(load(opened)))


def _mixed(work: Work, made: Made, reference: Engine) -> Iterator[Made]:
    """Search on the samples that chose the method: the held-out ones judge what comes of it."""
    table, options = made.ranges, work.options
    if table is None or not options.mixed_precision:
        return
    work.stages.begin("sensitivity")
    search = MixedSearch(
        model=made.source,
        table=table,
        samples=work.select,
        reference=reference.infer,
        make=lambda float_ops: _with_float_ops(work, made, table, float_ops),
        load=lambda int8, threads: load_cpu(_opened(int8), threads),
        gate=options.verify,
        threads=options.threads,
        every_kernel=work.every_kernel,
    )
    for found in mixed_models(search, work.stages.tick):
        yield made.with_form(found.model, found.float_ops)


def _opened(content: bytes) -> bytes:
    model = Model.from_bytes(content)
    opened = before_suppression(model)
    return content if opened is model else opened.to_bytes()


def _with_float_ops(
    work: Work, made: Made, table: CalibrationTable, float_ops: frozenset[int]
) -> Quantized:
    """Return the model with these ops float, refined if the model without is."""
    every_kernel = work.every_kernel
    quantized = quantize(made.source, table, float_ops=float_ops, every_kernel=every_kernel)
    form = refined_as(work, made.with_form(quantized.model, quantized.float_ops), made.refined)
    return quantized if form is None else Quantized(form, quantized.float_ops, quantized.int8_ops)


def _verify(work: Work, reference: Engine, engine: Engine) -> tuple[Verdict, list[Inputs]]:
    """Judge the engine; return the verdict and the inputs of some of the held-out samples."""
    work.stages.begin("verify", len(work.split.held_out))
    kept: dict[str, Inputs] = {}
    held_out = only(work.source, work.split.held_out)
    samples = _remember(held_out, kept, max(LATENCY_INPUTS, work.options.golden))
    options, tick = work.options.verify, work.stages.tick
    verdict = verify(reference.infer, engine, samples, options, tick, parts_of(work))
    return verdict, [kept[i] for i in sorted(kept)]


def _remember(samples: Iterator[Sample], kept: dict[str, Inputs], most: int) -> Iterator[Sample]:
    """Pass the samples on, keeping the inputs of those with the least ids: the same each time."""
    for sample in samples:
        kept[sample.id] = sample.inputs
        if len(kept) > most:
            del kept[max(kept)]
        yield sample
