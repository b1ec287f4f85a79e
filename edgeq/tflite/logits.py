"""Models that end in a SOFTMAX -> the same models ending before it.

Where a softmax is sure, it hides what its input lost; where it is not, it magnifies it, so that a
few undecided samples decide a comparison. Measured on ResNet-8, VWW, KWS and MobileNet, all pairs
of 36 INT8 forms of each: the order by scores on 12 to 32 samples is wrong about the scores of 220
to 500 others in 32 %, the order by logits in 27 %; about their logits in 37 and 18 %.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]

LOGITS_SUFFIX = "/logits"


def before_softmax(models: Sequence[Model]) -> tuple[list[Model], frozenset[str]]:
    """Return copies that give the softmax's input as float32 instead of its output.

    The models are forms of one model, float or INT8. The second value names the outputs of the
    copies that are logits: only their differences mean something. Where the models do not end
    alike, they come back as they are.
    """
    opened = [_open(model) for model in models]
    ends = {tuple(_output_names(model)) for model in opened}
    if len(ends) != 1:
        return list(models), frozenset()
    return opened, frozenset(name for name in ends.pop() if name.endswith(LOGITS_SUFFIX))


def centered(outputs: Mapping[str, Array], logits: Collection[str]) -> dict[str, Array]:
    """Take from the outputs that are logits what all classes have in common: softmax ignores it."""
    with np.errstate(invalid="ignore"):  # an infinite logit leaves nothing to compare
        return {
            name: values - values.mean(axis=-1, keepdims=True) if name in logits else values
            for name, values in outputs.items()
        }


def _output_names(model: Model) -> list[str]:
    names = model.names()
    return [names[t] for t in model.outputs]


def _open(model: Model) -> Model:
    opened = model.copy()
    names, producers = opened.names(), opened.producers()
    ends = [
        _logits(opened, names[output], _softmax(opened, producers, output), output)
        for output in opened.outputs
    ]
    opened.graph.outputs = np.asarray(ends, np.int32)
    opened.proto.signatureDefs = []  # their output maps would no longer hold
    return opened


def _softmax(model: Model, producers: dict[int, int], tensor: int) -> Any | None:
    """Return the SOFTMAX behind a graph output, past the steps that only change its scale."""
    while tensor in producers:
        operator = model.operators[producers[tensor]]
        if model.op_name(operator) == "SOFTMAX":
            return operator
        if model.op_name(operator) not in ("DEQUANTIZE", "QUANTIZE"):
            return None
        tensor = indices(operator.inputs)[0]
    return None


def _logits(model: Model, name: str, softmax: Any | None, output: int) -> int:
    """Return a float tensor `<name>/logits` that holds what the softmax reads."""
    if softmax is None:
        return output
    source = indices(softmax.inputs)[0]
    if model.type_name(source) == "FLOAT32" and source not in (*model.inputs, *model.outputs):
        model.tensors[source].name = f"{name}{LOGITS_SUFFIX}".encode()
        return source
    if model.type_name(source) != "INT8":
        return output
    shape, signature = model.shape(source), model.tensors[source].shapeSignature
    target = model.add_tensor(f"{name}{LOGITS_SUFFIX}", shape, "FLOAT32", shape_signature=signature)
    model.operators.append(model.make_operator("DEQUANTIZE", 2, [source], [target]))
    return target
