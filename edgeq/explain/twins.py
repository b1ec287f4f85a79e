"""Float model and its INT8 form -> which tensor of one stands for which of the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from edgeq.quantize.convert import INT8_SUFFIX
from edgeq.quantize.scheme import RULES
from edgeq.tflite.model import Model, indices, text

FURTHER = re.compile(rf"(.*{INT8_SUFFIX})_\d+", re.DOTALL)  # a second int8 form of one tensor


def float_sources(model: Model, int8: Model) -> dict[int, int]:
    """Return the float tensor behind the activations of the INT8 model, int8 or still float.

    Inputs and outputs stand for each other by position, int8 tensors by the name they were given,
    the others by theirs where it is one of a kind.
    """
    twins = {f"{name}{INT8_SUFFIX}": index for index, name in enumerate(model.names())}
    floats, own = _by_their_own_names(model), _by_their_own_names(int8)
    sources = {float_form: floats[name] for name, float_form in own.items() if name in floats}
    for index, name in enumerate(int8.names()):
        further = FURTHER.fullmatch(name)
        source = twins.get(name, twins.get(further[1]) if further else None)
        if source is not None and int8.type_name(index) == "INT8":
            sources[index] = source
    sources |= zip(int8.outputs, model.outputs, strict=True)
    sources |= zip(int8.inputs, model.inputs, strict=True)
    activations, floats_too = _activations(int8), _activations(model)
    return {t: s for t, s in sources.items() if t in activations and s in floats_too}


def _by_their_own_names(model: Model) -> dict[str, int]:
    """Return the float tensors whose names the file itself tells apart."""
    names = [text(tensor.name) for tensor in model.tensors]
    counts = Counter(names)
    return {
        name: index
        for index, name in enumerate(names)
        if name and counts[name] == 1 and model.type_name(index) == "FLOAT32"
    }


def _activations(model: Model) -> set[int]:
    """Return what ops compute or a caller gives, in float or int8; not what keeps state."""
    return {
        tensor
        for tensor in (*model.inputs, *model.producers())
        if model.type_name(tensor) in ("FLOAT32", "INT8") and not model.tensors[tensor].isVariable
    }


def twin_of(model: Model, int8: Model) -> dict[int, int]:
    """Return the int8 tensor that stands for each float tensor of the model, where one does."""
    names = model.names()
    activations = _activations(int8)
    at = {name: index for index, name in enumerate(int8.names()) if index in activations}
    twins = {index: at.get(f"{name}{INT8_SUFFIX}", -1) for index, name in enumerate(names)}
    return {t: twin for t, twin in twins.items() if twin >= 0 and int8.type_name(twin) == "INT8"}


def sharing(int8: Model) -> Mapping[int, frozenset[int]]:
    """Return for each int8 activation those that kernels tie to the same scale, itself included."""
    activations = _activations(int8)
    groups: dict[int, frozenset[int]] = {}
    for operator in int8.operators:
        rule = RULES.get(int8.op_name(operator))
        if rule is None or not rule.shares_scale:
            continue
        inputs = indices(operator.inputs)
        touched = [inputs[p] for p in rule.data_positions(operator)] + indices(operator.outputs)
        tied = [t for t in touched if t in activations and int8.type_name(t) == "INT8"]
        joined = frozenset(tied).union(*(groups.get(t, frozenset()) for t in tied))
        groups |= dict.fromkeys(joined, joined)
    return groups
