"""A refused INT8 model -> those with the ops that cost most kept float, the fewest first.

INT16 activations (LiteRT's 16x8) are no step between: without XNNPACK, one thread, CONV_2D takes 47
to 67 times its float time (1x1, 14x14x256: 14.3 ms against 0.28, INT8 0.08), DEPTHWISE_CONV_2D 24
to 46, ADD 11, FULLY_CONNECTED 4 to 5; float is faster and more accurate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgeq.calibrate.table import CalibrationTable
from edgeq.engines.base import Engine
from edgeq.quantize.convert import Quantized
from edgeq.quantize.op_latency import op_latency
from edgeq.quantize.sensitivity import OpNoise, float_ops_to_pass, op_noise
from edgeq.samples.split import SampleSource
from edgeq.tflite.model import Model
from edgeq.verify import Infer, Verdict, VerifyOptions, verify

MARGIN_DB = 1.0  # more than the gate asks for: other samples than these will be judged
MARGIN_NOISE = 10.0 ** (-MARGIN_DB / 10)  # the same as a share of the noise; a cosine's is 1 - it


@dataclass(frozen=True)
class MixedSearch:
    """What the search needs.

    `samples` are not those that the gate will judge by. `reference` answers as the float model
    does. `make` writes the INT8 model with the ops at these positions float; `load` runs it.
    """

    model: Model
    table: CalibrationTable
    samples: SampleSource
    reference: Infer
    make: Callable[[frozenset[int]], Quantized]
    load: Callable[[bytes, int], Engine]
    gate: VerifyOptions
    threads: int = 1
    every_kernel: bool = False  # as `quantize`


def mixed_models(
    search: MixedSearch, progress: Callable[[int], None] | None = None
) -> Iterator[Quantized]:
    """Yield the model with the fewest float ops that passes here, then with twice as many.

    The gate, on samples of its own, takes the first that suits it; nothing is yielded where
    only all float would pass here, or the samples are gone. `progress` is told how many models
    were tried.
    """
    if next(search.samples(), None) is None:  # they are gone
        return
    ranking = op_noise(
        search.model,
        search.table,
        search.samples(),
        threads=search.threads,
        every_kernel=search.every_kernel,
    )
    tried = itertools.count(1)

    def passes(float_ops: frozenset[int]) -> bool:
        quantized = search.make(float_ops)
        is_good = not quantized.is_float and is_clear(_judge(search, quantized))
        if progress is not None:
            progress(next(tried))
        return is_good

    chosen = float_ops_to_pass(ranking, passes)
    int8 = search.make(frozenset()).model
    count = len(ranking) if chosen is None else len(chosen)
    while count < len(ranking):
        quantized = search.make(frozenset(op.index for op in ranking[:count]))
        yield _explained(search, int8, quantized, ranking[:count])
        count *= 2


def _judge(search: MixedSearch, quantized: Quantized) -> Verdict:
    int8 = quantized.model.to_bytes()
    with contextlib.closing(search.load(int8, search.threads)) as engine:
        return verify(search.reference, engine, search.samples(), with_margin(search.gate))


def with_margin(gate: VerifyOptions) -> VerifyOptions:
    """Return thresholds that leave MARGIN_DB for the difference between samples."""
    return dataclasses.replace(
        gate,
        cosine=1.0 - (1.0 - gate.cosine) * MARGIN_NOISE,
        sqnr_db=gate.sqnr_db + MARGIN_DB,
    )


def is_clear(verdict: Verdict) -> bool:
    """True where it passed by the share of samples itself, with nothing granted for chance."""
    shares = [output.accepted for output in verdict.outputs if output.accepted is not None]
    return verdict.passed and all(share >= verdict.thresholds.agreement for share in shares)


def _explained(
    search: MixedSearch, int8: Model, quantized: Quantized, kept_float: Sequence[OpNoise]
) -> Quantized:
    """Say of each op that was kept float what INT8 would lose there, and what float costs."""
    reasons = {op.index: _reason(search, int8, op) for op in kept_float}
    float_ops = tuple(
        dataclasses.replace(op, reason=reasons.get(op.index, op.reason))
        for op in quantized.float_ops
    )
    return dataclasses.replace(quantized, float_ops=float_ops)


def _reason(search: MixedSearch, int8: Model, op: OpNoise) -> str:
    lost = f"kept float: alone in INT8 it leaves an SQNR of {op.sqnr_db:.1f} dB"
    timed = op_latency(search.model, int8, op.index, threads=search.threads)
    if timed is None:
        return lost
    return f"{lost}; it takes {timed.float_ms:.3f} ms in float, {timed.int8_ms:.3f} ms in INT8"
