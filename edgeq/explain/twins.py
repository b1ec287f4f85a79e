"""Float model and its INT8 form -> which tensor of one stands for which of the other."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeq.quantize.convert import INT8_SUFFIX
from edgeq.quantize.scheme import RULES
from edgeq.tflite.model import Model, indices

FURTHER = re.compile(rf"(.*{INT8_SUFFIX})_\d+", re.DOTALL)  # a second int8 form of one tensor


def float_sources(model: Model, int8: Model) -> dict[int, int]:
    """Return the float tensor behind every activation of the INT8 model, int8 or still float."""
    floats = {name: index for index, name in enumerate(model.names())}
    twins = {f"{name}{INT8_SUFFIX}": index for name, index in floats.items()}
    written = {*int8.inputs, *int8.producers()}  # not what keeps state
    sources = {}
    for index, name in enumerate(int8.names()):
        known = floats if int8.type_name(index) == "FLOAT32" else twins
        further = FURTHER.fullmatch(name)
        source = known.get(name, known.get(further[1]) if further else None)
        if source is not None and index in written:
            sources[index] = source
    return sources


def twin_of(model: Model, int8: Model) -> dict[int, int]:
    """Return the int8 tensor that stands for each float tensor of the model, where one does."""
    names = model.names()
    at = {name: index for index, name in enumerate(int8.names())}
    twins = {index: at.get(f"{name}{INT8_SUFFIX}", -1) for index, name in enumerate(names)}
    return {t: twin for t, twin in twins.items() if twin >= 0 and int8.type_name(twin) == "INT8"}


def sharing(int8: Model) -> Mapping[int, frozenset[int]]:
    """Return for each int8 activation those that kernels tie to the same scale, itself included."""
    groups: dict[int, frozenset[int]] = {}
    for operator in int8.operators:
        rule = RULES.get(int8.op_name(operator))
        if rule is None or not rule.shares_scale:
            continue
        inputs = indices(operator.inputs)
        touched = [inputs[p] for p in rule.data_positions(operator)] + indices(operator.outputs)
        tied = [t for t in touched if t >= 0 and _is_activation(int8, t)]
        joined = frozenset(tied).union(*(groups.get(t, frozenset()) for t in tied))
        groups |= dict.fromkeys(joined, joined)
    return groups


def _is_activation(model: Model, tensor: int) -> bool:
    return model.type_name(tensor) == "INT8" and not model.is_constant(tensor)
