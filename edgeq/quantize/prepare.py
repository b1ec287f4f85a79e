"""A float model as converters write it -> the same as the quantizer wants it.

Folds constants behind DEQUANTIZE (float16 and INT8 weights) and the INT8 weights of dynamic-range
("hybrid") ops, takes out the QUANTIZE -> DEQUANTIZE pairs that training left, and averages whole
maps by MEAN. Tensor indices and names of the given model stay valid; ops may disappear, so their
positions in the given model travel along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.quantize.affine import dequantize_values
from edgeq.quantize.pairs import bypass_pairs
from edgeq.quantize.pooling import pools_as_means
from edgeq.quantize.ranges import Range
from edgeq.quantize.scheme import RULES
from edgeq.tflite.model import Model, indices

Array = npt.NDArray[Any]
INTEGER_ACTIVATIONS = ("INT8", "UINT8", "INT16")


@dataclass(frozen=True)
class Prepared:
    """The normalised model; `positions[i]` is where its op i was in the given model.

    `ranges`: tensor -> what the model itself says of it, by QUANTIZE and DEQUANTIZE.
    """

    model: Model
    positions: tuple[int, ...]
    ranges: Mapping[int, Range]


def is_quantized(model: Model) -> bool:
    """True where an op already computes on affine integers: such a model keeps its own scales."""
    for operator in model.operators:
        rule = RULES.get(model.op_name(operator))
        if rule is None or rule.moves_only:
            continue
        inputs = indices(operator.inputs)
        if any(_is_integer_activation(model, inputs[p]) for p in rule.data_positions(operator)):
            return True
    return False


def check_stateless(model: Model) -> None:
    """Refuse a model of which one inference leaves something to the next.

    An LSTM's variable tensors are no such thing: every run begins with them reset. Resource
    variables cannot be, so that ranges and verdict would depend on the order of the samples.

    Raises:
        QuantizeError: an op writes a variable, elsewhere than where variables begin.
    """
    graphs = model.subgraphs()
    begins = {
        int(operator.builtinOptions.initSubgraphIndex)
        for graph in graphs
        for operator in graph.operators
        if graph.op_name(operator) == "CALL_ONCE"
    }
    for number, graph in enumerate(graphs):
        names = [graph.op_name(operator) for operator in graph.operators]
        if "ASSIGN_VARIABLE" in names and number not in begins:
            raise QuantizeError(
                f"op {names.index('ASSIGN_VARIABLE')} (ASSIGN_VARIABLE) keeps state from one "
                "inference to the next; edgeq takes models that begin anew each time",
                hint="Export the model with its state as inputs and outputs.",
            )


def _is_integer_activation(model: Model, index: int) -> bool:
    return (
        index >= 0
        and not model.is_constant(index)
        and model.type_name(index) in INTEGER_ACTIVATIONS
        and model.quantization(index) is not None
    )


def constant_values(model: Model, index: int) -> Array:
    """Return the values of a constant.

    Raises:
        QuantizeError: the file does not hold them in a type that can be read.
    """
    values = model.constant(index)
    if values is None:
        raise QuantizeError(
            f"tensor {model.name(index)!r} ({model.type_name(index)}) is no readable constant",
            hint="Export the model again, with float32 weights.",
        )
    return values


def prepare(model: Model) -> Prepared:
    """Return a copy with float32 weights, wherever the file knows their values, and MEAN pools."""
    folded = model.copy()
    kept, positions = [], []
    for position, operator in enumerate(folded.operators):
        if _fold_dequantize(folded, operator):
            continue
        _fold_hybrid_weights(folded, operator)
        kept.append(operator)
        positions.append(position)
    folded.graph.operators = kept
    pairs = bypass_pairs(folded)
    left = [new for new in range(len(kept)) if new not in pairs.positions]
    folded.graph.operators = [kept[new] for new in left]
    pools_as_means(folded)
    return Prepared(folded, tuple(positions[new] for new in left), pairs.ranges)


def _fold_dequantize(model: Model, operator: Any) -> bool:
    """Turn the output of a DEQUANTIZE over a constant into a constant; False where it is none."""
    if model.op_name(operator) != "DEQUANTIZE":
        return False
    source, target = indices(operator.inputs)[0], indices(operator.outputs)[0]
    values = _float_values(model, source)
    if values is None or target in model.outputs:
        return False
    model.tensors[target].buffer = model.add_buffer(values)
    return True


def _fold_hybrid_weights(model: Model, operator: Any) -> None:
    """Give an op with float activations and INT8 weights float weights."""
    rule = RULES.get(model.op_name(operator))
    if rule is None or rule.weights is None:
        return
    inputs = indices(operator.inputs)
    weights, data = inputs[rule.weights.position], inputs[rule.data_positions(operator)[0]]
    if model.type_name(weights) != "INT8" or model.type_name(data) != "FLOAT32":
        return
    values = _float_values(model, weights)
    if values is None:
        return
    name = f"{model.name(weights)}_float32"
    inputs[rule.weights.position] = model.add_tensor(name, values.shape, "FLOAT32", values=values)
    operator.inputs = np.asarray(inputs, np.int32)


def _float_values(model: Model, index: int) -> Array | None:
    """Return a constant as float32; None where it is none, sparse, or of a packed type."""
    values = model.constant(index)
    if values is None or model.tensors[index].sparsity is not None:
        return None
    if model.type_name(index) == "FLOAT16":
        return values.astype(np.float32)
    quantization = model.quantization(index)
    if quantization is None or model.type_name(index) not in ("INT8", "UINT8"):
        return None
    return dequantize_values(values, quantization)
