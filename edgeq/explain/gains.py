"""How far each tensor is from float -> how much of the outputs' noise starts there.

Noise that is small beside a tensor's energy may be all there is of what the next op reads: a
narrow channel's beside a wide one, say. So the noise that an op adds is followed to the outputs by
the measured gain of every op on the way: how noise grew from its inputs to what it passed on. An
output that a softmax or a maximum makes counts before it: where it is sure, it hides all noise.

Measured against each op in INT8 alone, which takes an inference per op: the five ops with the
largest shares hold 52, 54, 58, 68, 48, 80 % of that noise on ResNet-8, VWW, KWS, AD, MobileNet and
UltraFace, the best five 70, 79, 93, 80, 58, 84 %. The five that lose most dB hold 28 % on
UltraFace, those with the most noise of their own 1 %.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.explain.comparison import COPIES, Comparison
from edgeq.tflite.model import Model, indices

CHOICES = frozenset({"SOFTMAX", "ARG_MAX", "ARG_MIN"})


def noise_shares(int8: Model, compared: Mapping[int, Comparison]) -> dict[int, float]:
    """Return tensor -> the share of the outputs' noise that the op writing it adds.

    Ops that repair noise, or whose result nothing reads, have 0; the others' sum is 1.
    """
    reach = _reach(int8, compared)
    costs = {
        tensor: max(0.0, each.noise_ratio - each.passed_ratio) * reach.get(tensor, 0.0)
        for tensor, each in compared.items()
    }
    total = sum(costs.values())
    return {tensor: cost / total if total else 0.0 for tensor, cost in costs.items()}


def _reach(int8: Model, compared: Mapping[int, Comparison]) -> dict[int, float]:
    """Return by how much a tensor's noise grows on all its ways to the outputs."""
    reach = dict.fromkeys(_ends(int8), 1.0)
    for operator in reversed(int8.operators):
        inputs = {t for t in indices(operator.inputs) if t in compared}
        noise = sum(compared[t].noise_ratio for t in inputs)
        onward = [t for t in indices(operator.outputs) if t in compared]
        grown = sum(compared[t].passed_ratio * reach.get(t, 0.0) for t in onward)
        if noise == 0.0:
            continue
        for tensor in inputs:
            reach[tensor] = reach.get(tensor, 0.0) + grown / noise
    return reach


def _ends(int8: Model) -> list[int]:
    """Return the outputs, or what a choice that an output comes from is made of."""
    producers, ends = int8.producers(), []
    for output in int8.outputs:
        tensor = output
        while tensor in producers:
            operator = int8.operators[producers[tensor]]
            if int8.op_name(operator) not in COPIES | CHOICES:
                break
            tensor = indices(operator.inputs)[0]
            if int8.op_name(operator) in CHOICES:
                output = tensor
                break
        ends.append(output)
    return ends
