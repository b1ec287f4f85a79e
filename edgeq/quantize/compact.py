"""A rewritten model -> the same without the tensors, buffers and op codes that nothing names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeq.tflite.model import Model, indices, text

STALE_METADATA = frozenset({"min_runtime_version"})  # it was true of the float ops


def compact(model: Model) -> None:
    """Drop what the first subgraph no longer uses; signatures and metadata stay valid."""
    _drop_tensors(model)
    _drop_stale_metadata(model)
    _drop_buffers(model)
    _drop_operator_codes(model)


def _drop_tensors(model: Model) -> None:
    used = {*model.inputs, *model.outputs, *_signature_tensors(model)}
    for operator in model.operators:
        for vector in (operator.inputs, operator.outputs, operator.intermediates):
            used.update(indices(vector))
    kept = sorted(used - {-1})
    new = {old: position for position, old in enumerate(kept)} | {-1: -1}
    model.graph.tensors = [model.tensors[old] for old in kept]
    model.graph.inputs = _renumbered(model.graph.inputs, new)
    model.graph.outputs = _renumbered(model.graph.outputs, new)
    for operator in model.operators:
        operator.inputs = _renumbered(operator.inputs, new)
        operator.outputs = _renumbered(operator.outputs, new)
        if operator.intermediates is not None:
            operator.intermediates = _renumbered(operator.intermediates, new)
    for entry in _signature_entries(model):
        entry.tensorIndex = new[int(entry.tensorIndex)]


def _renumbered(vector: Any, new: dict[int, int]) -> Any:
    return np.asarray([new[old] for old in indices(vector)], np.int32)


def _signature_entries(model: Model) -> Iterable[Any]:
    """Yield the tensor maps of signatures over the first subgraph."""
    for signature in model.proto.signatureDefs or []:
        if int(signature.subgraphIndex) == 0:
            yield from signature.inputs or []
            yield from signature.outputs or []


def _signature_tensors(model: Model) -> set[int]:
    return {int(entry.tensorIndex) for entry in _signature_entries(model)}


def _drop_stale_metadata(model: Model) -> None:
    entries = model.proto.metadata or []
    model.proto.metadata = [e for e in entries if text(e.name) not in STALE_METADATA]


def _drop_buffers(model: Model) -> None:
    """Keep buffer 0 (empty by convention) and what tensors of any subgraph or metadata name."""
    proto = model.proto
    tensors = [t for subgraph in proto.subgraphs for t in subgraph.tensors]
    entries = proto.metadata or []
    legacy = indices(proto.metadataBuffer)
    used = {0, *(t.buffer for t in tensors), *(e.buffer for e in entries), *legacy}
    kept = sorted(used)
    new = {old: position for position, old in enumerate(kept)}
    proto.buffers = [proto.buffers[old] for old in kept]
    for holder in [*tensors, *entries]:
        holder.buffer = new[holder.buffer]
    if legacy:
        proto.metadataBuffer = np.asarray([new[old] for old in legacy], np.int32)


def _drop_operator_codes(model: Model) -> None:
    proto = model.proto
    operators = [o for subgraph in proto.subgraphs for o in subgraph.operators or []]
    kept = sorted({int(o.opcodeIndex) for o in operators})
    new = {old: position for position, old in enumerate(kept)}
    proto.operatorCodes = [proto.operatorCodes[old] for old in kept]
    for operator in operators:
        operator.opcodeIndex = new[int(operator.opcodeIndex)]
