"""A .tflite file <-> a graph that can be read and rewritten: tensors, ops, constants.

A thin layer over the schema's tables (`schema.ModelT`): it adds numpy views, names and the few
edits that the tap and the quantizer need, and nothing that the schema already says. Only the first
subgraph is the model; further ones belong to control flow and travel untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import StructureError
from edgeq.tflite import flatbuffer
from edgeq.tflite.names import unique
from edgeq.tflite.schema import OPERATOR_CODES, OPERATOR_NAMES, TYPE_NAMES, schema

Array = npt.NDArray[Any]

FILE_IDENTIFIER = b"TFL3"
MAX_FILE_BYTES = (1 << 31) - 1  # flatbuffers/base.h: FLATBUFFERS_MAX_BUFFER_SIZE
PLACEHOLDER_FOR_NEWER_CODES = 127  # BuiltinOperator codes above this live in `builtinCode` only

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT32": np.dtype(np.float32),
    "FLOAT16": np.dtype(np.float16),
    "FLOAT64": np.dtype(np.float64),
    "INT4": np.dtype(np.int8),  # packed two to a byte on disk
    "INT8": np.dtype(np.int8),
    "UINT8": np.dtype(np.uint8),
    "INT16": np.dtype(np.int16),
    "UINT16": np.dtype(np.uint16),
    "INT32": np.dtype(np.int32),
    "UINT32": np.dtype(np.uint32),
    "INT64": np.dtype(np.int64),
    "UINT64": np.dtype(np.uint64),
    "BOOL": np.dtype(np.bool_),
    "COMPLEX64": np.dtype(np.complex64),
    "COMPLEX128": np.dtype(np.complex128),
}
TYPE_CODES: dict[str, int] = {name: code for code, name in TYPE_NAMES.items()}


@dataclass(frozen=True)
class Quantization:
    """Affine parameters of a tensor: real = scale * (quantized - zero_point).

    `scale` and `zero_point` have one entry, or one per index of dimension `axis`.
    """

    scale: Array  # float32 [1] or [channels]
    zero_point: Array  # int64, same shape
    axis: int = 0

    @property
    def is_per_channel(self) -> bool:
        """True where each index of `axis` has a scale of its own."""
        return len(self.scale) > 1


class Model:
    """A TFLite model in memory; `proto` is the schema's own object and stays the only state."""

    def __init__(self, proto: Any, subgraph: int = 0) -> None:
        self.proto = proto
        self._subgraph = subgraph

    @classmethod
    def from_bytes(cls, content: bytes) -> Model:
        """Unpack a flatbuffer.

        Raises:
            StructureError: the bytes are not a TFLite flatbuffer, or are cut or damaged.
        """
        if len(content) < 8 or content[4:8] != FILE_IDENTIFIER:
            raise StructureError(
                f"the file starts with {content[:8]!r}; a TFLite model has 'TFL3' at byte 4",
                hint="Drop the .tflite file itself, completely copied.",
            )
        if len(content) > MAX_FILE_BYTES:
            raise StructureError(
                f"the file has {len(content)} bytes; a flatbuffer ends at {MAX_FILE_BYTES}",
                hint="Use a smaller model: its offsets cannot reach further.",
            )
        model = cls(flatbuffer.read(content))
        if not (model.proto.subgraphs and model.proto.operatorCodes and model.proto.buffers):
            raise StructureError(
                "the flatbuffer holds no graph: subgraphs, operator codes or buffers are missing",
                hint="Export the model again.",
            )
        return model

    @classmethod
    def read(cls, path: Path) -> Model:
        """Read a .tflite file; errors as `from_bytes`."""
        return cls.from_bytes(path.read_bytes())

    def to_bytes(self) -> bytes:
        """Pack the model into a new flatbuffer."""
        return flatbuffer.write(self.proto, FILE_IDENTIFIER)

    def copy(self) -> Model:
        """Return an independent copy; the values of vectors and constants are shared."""
        return Model(self.proto.copy(), self._subgraph)

    @property
    def graph(self) -> Any:
        """The schema's SubGraphT object."""
        return self.proto.subgraphs[self._subgraph]

    def subgraphs(self) -> list[Model]:
        """Return a view of each subgraph in the file's order; the first is the model itself."""
        return [Model(self.proto, index) for index in range(len(self.proto.subgraphs))]

    @property
    def tensors(self) -> list[Any]:
        """The schema's TensorT objects."""
        return self.graph.tensors  # type: ignore[no-any-return]

    @property
    def operators(self) -> list[Any]:
        """The schema's OperatorT objects in execution order."""
        if self.graph.operators is None:  # a list of the graph's own, so that appends hold
            self.graph.operators = []
        return self.graph.operators  # type: ignore[no-any-return]

    @property
    def inputs(self) -> list[int]:
        """Tensor indices of the graph's inputs."""
        return indices(self.graph.inputs)

    @property
    def outputs(self) -> list[int]:
        """Tensor indices of the graph's outputs."""
        return indices(self.graph.outputs)

    def op_name(self, operator: Any) -> str:
        """Return e.g. 'CONV_2D'; a custom op is 'CUSTOM:<its code>'."""
        code = self.proto.operatorCodes[operator.opcodeIndex]
        number = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
        name = OPERATOR_NAMES.get(number, f"UNKNOWN_{number}")
        if name == "CUSTOM":
            return f"CUSTOM:{text(code.customCode)}"
        return name

    def type_name(self, index: int) -> str:
        """Return the schema's name of a tensor's type, e.g. 'FLOAT32'."""
        return TYPE_NAMES.get(int(self.tensors[index].type), "UNKNOWN")

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the static shape; a scalar is ()."""
        return tuple(indices(self.tensors[index].shape))

    def name(self, index: int) -> str:
        """Return a tensor's unique name; for more than a few, take them from `names` at once."""
        return self.names()[index]

    def names(self) -> list[str]:
        """Return every tensor's name, made unique; an empty or repeated one gets '#<position>'.

        Inputs are counted first, so that they are named as the runtime's interface names them.
        """
        order = list(dict.fromkeys([*self.inputs, *range(len(self.tensors))]))
        named = unique([text(self.tensors[index].name) for index in order])
        return [name for _, name in sorted(zip(order, named, strict=True))]

    def is_constant(self, index: int) -> bool:
        """True where the file holds the tensor's values."""
        if index < 0:
            return False
        tensor = self.tensors[index]
        if tensor.buffer == 0 or tensor.isVariable:
            return False
        data = self.proto.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    def constant(self, index: int) -> Array | None:
        """Return a constant's values in its shape (a read-only view), or None."""
        if not self.is_constant(index):
            return None
        name = self.type_name(index)
        if name not in DTYPES or name == "INT4":
            return None
        raw = np.asarray(self.proto.buffers[self.tensors[index].buffer].data, np.uint8)
        return raw.view(DTYPES[name]).reshape(self.shape(index))

    def quantization(self, index: int) -> Quantization | None:
        """Return a tensor's affine parameters, or None for a float or integer tensor."""
        params = self.tensors[index].quantization
        if params is None or params.scale is None or len(params.scale) == 0:
            return None
        scale = np.asarray(params.scale, np.float32)
        zero = params.zeroPoint
        zero_point = np.zeros(len(scale), np.int64) if zero is None else np.asarray(zero, np.int64)
        return Quantization(scale, zero_point, int(params.quantizedDimension))

    def producers(self) -> dict[int, int]:
        """Return tensor index -> index of the op that writes it."""
        return {
            tensor: position
            for position, operator in enumerate(self.operators)
            for tensor in indices(operator.outputs)
        }

    def consumers(self) -> dict[int, list[int]]:
        """Return tensor index -> indices of the ops that read it, in order."""
        readers: dict[int, list[int]] = {}
        for position, operator in enumerate(self.operators):
            for tensor in indices(operator.inputs):
                if tensor >= 0:
                    readers.setdefault(tensor, []).append(position)
        return readers

    # ---- edits

    def add_buffer(self, values: Array) -> int:
        """Append a constant's bytes; return the buffer index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.proto.buffers.append(buffer)
        return len(self.proto.buffers) - 1

    def add_tensor(
        self,
        name: str,
        shape: Sequence[int],
        type_name: str,
        *,
        values: Array | None = None,
        quantization: Quantization | None = None,
        shape_signature: Sequence[int] | None = None,
    ) -> int:
        """Append a tensor, with `values` as a constant; return its index."""
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = np.asarray(shape, np.int32)
        tensor.type = TYPE_CODES[type_name]
        tensor.hasRank = True
        tensor.buffer = 0 if values is None else self.add_buffer(values)
        if shape_signature is not None:
            tensor.shapeSignature = np.asarray(shape_signature, np.int32)
        self.tensors.append(tensor)
        if quantization is not None:
            self.set_quantization(len(self.tensors) - 1, quantization)
        return len(self.tensors) - 1

    def set_quantization(self, index: int, quantization: Quantization) -> None:
        """Give a tensor its affine parameters."""
        params = schema.QuantizationParametersT()
        params.scale = quantization.scale.astype(np.float32)
        params.zeroPoint = quantization.zero_point.astype(np.int64)
        params.quantizedDimension = quantization.axis
        self.tensors[index].quantization = params

    def opcode_index(self, name: str, version: int) -> int:
        """Return the index of an operator code, added where it is new."""
        number = OPERATOR_CODES[name]
        for index, code in enumerate(self.proto.operatorCodes):
            existing = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
            if existing == number and int(code.version) == version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = number
        code.deprecatedBuiltinCode = min(number, PLACEHOLDER_FOR_NEWER_CODES)
        code.version = version
        self.proto.operatorCodes.append(code)
        return len(self.proto.operatorCodes) - 1

    def make_operator(
        self, name: str, version: int, inputs: Iterable[int], outputs: Iterable[int]
    ) -> Any:
        """Return a new op without options; the caller puts it in its place in `operators`."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.opcode_index(name, version)
        operator.inputs = np.asarray(list(inputs), np.int32)
        operator.outputs = np.asarray(list(outputs), np.int32)
        return operator


def indices(vector: Any) -> list[int]:
    """Return a schema vector (numpy array, list or None) as a list of ints."""
    return [] if vector is None else [int(value) for value in vector]


def text(raw: bytes | str | None) -> str:
    """Return a schema string as str."""
    if raw is None:
        return ""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
