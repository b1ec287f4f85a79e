"""INT8 forms of one float model -> how close each is to it, on the samples that choices are by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from edgeq.build.work import Work
from edgeq.engines.base import Engine, EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.tflite.logits import before_softmax
from edgeq.tflite.model import Model
from edgeq.tflite.suppression import before_suppression
from edgeq.verify import rank


def fidelity_db(
    work: Work, forms: Mapping[str, Model], tick: Callable[[int], None] | None = None
) -> dict[str, float]:
    """Return each form's SQNR in dB at its worst output; nothing where the samples are gone."""
    threads = work.options.threads
    models = [before_suppression(model) for model in (work.model, *forms.values())]
    (reference, *opened), logits = before_softmax(models)
    with contextlib.ExitStack() as engines:

        def load(model: Model, kind: EngineKind) -> Engine:
            engine = CpuEngine(model.to_bytes(), kind, threads=threads)
            return engines.enter_context(contextlib.closing(engine))

        candidates = {n: load(m, "cpu-int8") for n, m in zip(forms, opened, strict=True)}
        return rank(load(reference, "float").infer, candidates, work.select(), tick, logits)
