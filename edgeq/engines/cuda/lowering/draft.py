"""What is written while ops are lowered: values, constants and the nodes of one op at a time."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from edgeq.engines.cuda.lowering.graph import Graph, Op, Tensor
from edgeq.engines.cuda.program.nodes import Datatype, Node, Value
from edgeq.tflite.model import Model, Quantization

Array = npt.NDArray[Any]

BYTES = ("INT8", "UINT8")
DATATYPES: dict[str, Datatype] = {
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "FLOAT32": "float32",
}


class Refusal(Exception):
    """The op is not lowered, and why: half a sentence that follows its name."""


class Draft:
    """Values by index: the graph's tensors under their own, then what lowering adds."""

    def __init__(self, model: Model, graph: Graph) -> None:
        self.model = model
        self.graph = graph
        self.values: dict[int, Value] = {}
        self.constants: dict[int, Array] = {}
        self._nodes: list[Node] = []
        self._following = len(graph.tensors)

    def tensor(self, index: int) -> Tensor:
        """Return a tensor of the graph."""
        return self.graph.tensors[index]

    def value(self, index: int) -> int:
        """Return `index` as a value; a constant tensor becomes a constant of the program."""
        tensor = self.tensor(index)
        require(tensor.type in DATATYPES, f"takes or gives {tensor.type}")
        require(0 not in tensor.shape, "takes or gives an empty tensor")
        require(tensor.is_fixed, "takes or gives a tensor whose shape is not known beforehand")
        self.values[index] = Value(tensor.name, tensor.shape, DATATYPES[tensor.type])
        if tensor.constant is not None:
            self.constants[index] = tensor.constant
        return index

    def int8(self, index: int) -> int:
        """Return `index` as an int8 value with one scale."""
        return self.bytes(index, ("INT8",))

    def bytes(self, index: int, types: tuple[str, ...] = BYTES) -> int:
        """Return `index` as a value of one of these types with one scale."""
        tensor = self.tensor(index)
        require(tensor.type in types, f"takes or gives {tensor.type}")
        require(not parameters(tensor).is_per_channel, "takes or gives a tensor of many scales")
        return self.value(index)

    def temporary(self, shape: tuple[int, ...], datatype: Datatype = "int8") -> int:
        """Append a value that is no tensor of the graph."""
        index = self._following
        self._following += 1
        self.values[index] = Value(f"temporary {index}", shape, datatype)
        return index

    def add(self, node: Node) -> None:
        """Append a node to those of the present op."""
        self._nodes.append(node)

    def take_nodes(self) -> tuple[Node, ...]:
        """Return the present op's nodes and begin the next one's."""
        nodes, self._nodes = tuple(self._nodes), []
        return nodes

    def is_static(self, index: int) -> bool:
        """Say whether the file holds the tensor: XNNPACK takes no other weights and sizes."""
        return index >= 0 and self.model.is_constant(index)

    def constant(self, index: int) -> Array:
        """Return a constant; it may have been folded."""
        constant = self.tensor(index).constant
        if constant is None:
            raise Refusal(f"needs {self.tensor(index).name!r} before it runs")
        return constant

    def integers(self, index: int) -> list[int]:
        """Return a constant as integers."""
        return [int(value) for value in self.constant(index).reshape(-1)]

    def data_inputs(self, op: Op) -> list[int]:
        """Return the op's inputs that depend on the model's."""
        return [t for t in op.inputs if t >= 0 and self.tensor(t).constant is None]


def parameters(tensor: Tensor) -> Quantization:
    """Return a tensor's scales and zero points."""
    if tensor.quantization is None:
        raise Refusal(f"takes or gives {tensor.name!r}, which has no scale")
    return tensor.quantization


def require(holds: bool, otherwise: str) -> None:
    """Refuse the op unless the condition holds."""
    if not holds:
        raise Refusal(otherwise)
