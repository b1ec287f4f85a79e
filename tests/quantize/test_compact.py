"""What nothing names goes; signatures, metadata and other subgraphs keep what they name."""

from __future__ import annotations

import numpy as np

from edgeq.quantize.compact import compact
from edgeq.tflite.model import Model, text
from edgeq.tflite.runtime import Runner
from edgeq.tflite.schema import schema
from tests import tiny


def _with_litter() -> Model:
    model = tiny.one_op_model()
    litter = model.add_tensor("litter", (3,), "FLOAT32", values=np.ones(3, np.float32))
    model.graph.tensors.insert(0, model.graph.tensors.pop(litter))
    model.graph.inputs, model.graph.outputs = np.array([1]), np.array([2])
    model.operators[0].inputs, model.operators[0].outputs = np.array([1]), np.array([2])
    model.opcode_index("COS", 1)
    return model


def _signature(model: Model) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = b"in", model.inputs[0]
    signature.outputs[0].name, signature.outputs[0].tensorIndex = b"out", model.outputs[0]
    model.proto.signatureDefs = [signature]


def _metadata(model: Model, name: str, content: bytes) -> None:
    entry = schema.MetadataT()
    entry.name = name.encode()
    entry.buffer = model.add_buffer(np.frombuffer(content, np.uint8))
    model.proto.metadata = [*(model.proto.metadata or []), entry]


def test_unused_tensors_buffers_and_codes_go() -> None:
    model = _with_litter()
    compact(model)
    assert [text(tensor.name) for tensor in model.tensors] == ["x", "y"]
    assert len(model.proto.buffers) == 1
    assert [model.op_name(operator) for operator in model.operators] == ["RELU"]
    assert len(model.proto.operatorCodes) == 1
    x = np.array([[-1, 0, 2, -3]], np.float32)
    np.testing.assert_array_equal(Runner(model.to_bytes()).run({"x": x})["y"], x.clip(0))


def test_signatures_follow_their_tensors() -> None:
    model = _with_litter()
    _signature(model)
    compact(model)
    signature = model.proto.signatureDefs[0]
    assert signature.inputs[0].tensorIndex == model.inputs[0] == 0
    assert signature.outputs[0].tensorIndex == model.outputs[0] == 1


def test_metadata_keeps_its_content_but_for_what_is_no_longer_true() -> None:
    model = _with_litter()
    _metadata(model, "min_runtime_version", b"1.5.0")
    _metadata(model, "labels", b"cat dog")
    compact(model)
    (entry,) = model.copy().proto.metadata
    assert text(entry.name) == "labels"
    assert bytes(model.proto.buffers[entry.buffer].data) == b"cat dog"


def test_other_subgraphs_keep_their_tensors_and_constants() -> None:
    model = _with_litter()
    other = tiny.tiny_model()
    offset = len(model.proto.buffers)
    for tensor in other.tensors:
        tensor.buffer = tensor.buffer + offset if tensor.buffer else 0
    codes = len(model.proto.operatorCodes)
    for operator in other.operators:
        operator.opcodeIndex += codes
    model.proto.buffers += other.proto.buffers
    model.proto.operatorCodes += other.proto.operatorCodes
    model.proto.subgraphs.append(other.graph)
    compact(model)
    moved = Model(model.copy().proto)
    moved.proto.subgraphs = moved.proto.subgraphs[1:]
    expected = Runner(tiny.tiny_model().to_bytes()).run(tiny.tiny_inputs())
    actual = Runner(moved.to_bytes()).run(tiny.tiny_inputs())
    np.testing.assert_array_equal(actual["scores"], expected["scores"])
