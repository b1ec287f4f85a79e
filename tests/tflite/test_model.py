"""Files survive reading and writing, views say what the file says, edits load in the runtime."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import StructureError
from edgeq.tflite.model import DTYPES, Model, Quantization, indices, text
from edgeq.tflite.runtime import Runner
from edgeq.tflite.structure import check_structure
from tests import tiny

MODELS = [
    "models/ad01_fp32", "models/deeplabv3_257_fp32", "models/kws_dscnn_fp32",
    "models/mobilenet_v1_0_25_224_fp32", "models/resnet8_cifar10_fp32",
    "models/ultraface_slim320_fp32", "models/vww96_fp32", "reference/ad01_int8_ref",
    "reference/kws_dscnn_int8_ref", "reference/resnet8_cifar10_int8_ref",
    "reference/vww96_int8_ref", "traps/kws_ref_model_float32", "traps/sine_float",
]  # fmt: skip


def random_inputs(runner: Runner, seed: int = 0) -> dict[str, tiny.Array]:
    random = np.random.default_rng(seed)
    spread = {np.dtype(np.float32): 1, np.dtype(np.int8): 50}
    return {
        spec.name: (random.normal(size=spec.shape) * spread[spec.dtype]).astype(spec.dtype)
        for spec in runner.inputs
    }


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_computes_the_same_after_reading_and_writing(shared: Path, name: str) -> None:
    content = (shared / "data" / f"{name}.tflite").read_bytes()
    model = Model.from_bytes(content)
    check_structure(model)
    rewritten = model.to_bytes()
    before, after = Runner(content), Runner(rewritten)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    inputs = random_inputs(before)
    expected, actual = before.run(inputs), after.run(inputs)
    for output, value in expected.items():
        np.testing.assert_array_equal(actual[output], value)
    assert Model.from_bytes(rewritten).to_bytes() == rewritten  # a fixed point


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
def test_the_views_of_a_real_model_hold_together(shared: Path, name: str) -> None:
    model = Model.read(shared / "data" / f"{name}.tflite")
    names = model.names()
    assert len(set(names)) == len(names) == len(model.tensors)
    for index in range(len(names)):
        constant, quantization = model.constant(index), model.quantization(index)
        assert (constant is not None) == model.is_constant(index)
        if constant is not None:
            assert constant.shape == model.shape(index)
            assert constant.dtype == DTYPES[model.type_name(index)]
        if quantization is not None:
            assert quantization.is_per_channel == (len(quantization.scale) > 1)
            assert len(quantization.zero_point) == len(quantization.scale)
    producers, consumers = model.producers(), model.consumers()
    for tensor, readers in consumers.items():
        assert all(producers.get(tensor, -1) < reader for reader in readers)


@pytest.mark.shared
def test_an_int8_reference_shows_its_parameters(shared: Path) -> None:
    model = Model.read(shared / "data" / "reference" / "resnet8_cifar10_int8_ref.tflite")
    first = model.operators[0]
    assert model.op_name(first) == "CONV_2D"
    weights = model.quantization(indices(first.inputs)[1])
    assert weights is not None
    assert weights.is_per_channel
    assert weights.axis == 0
    assert not weights.zero_point.any()
    output = model.quantization(model.outputs[0])
    assert output is not None
    assert (output.scale[0], output.zero_point[0]) == (1 / 256, -128)  # softmax by the spec


def test_a_copy_is_independent(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    copy = model.copy()
    copy.tensors[0].name = b"renamed"
    copy.operators.pop()
    assert model.names()[0] == "image"
    assert model.to_bytes() == tiny_model_bytes


def test_names_are_unique_where_the_file_repeats_them(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.tensors[1].name, model.tensors[2].name, model.tensors[3].name = b"image", None, b""
    assert model.names()[:4] == ["image", "image#1", "#2", "#3"]
    assert model.name(1) == "image#1"


def test_inputs_are_named_as_the_runtime_names_them() -> None:
    g = tiny.GraphBuilder({"y": (1, 2), "x": (1, 2), "x#2": (1, 2)})
    total = g.op("ADD", [0, 1], ("x", (1, 2)))
    model = g.finish(g.op("MUL", [total, 2], ("y", (1, 2))))
    model.graph.inputs = np.array([2, 1, 0], np.int32)
    model.tensors[2].name = b"x"
    inputs = [spec.name for spec in Runner(model.to_bytes()).inputs]
    assert inputs == ["x", "x#1", "y"]
    assert [model.names()[index] for index in model.inputs] == inputs
    assert model.names()[3:] == ["x#3", "y#4"]


def test_constants_are_read_in_their_shape(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    index = model.names().index("flat/shape")
    constant = model.constant(index)
    assert constant is not None
    assert constant.tolist() == [1, 24]
    assert not constant.flags.writeable
    assert model.constant(0) is None
    assert model.constant(-1) is None  # an optional input left out


def test_packed_int4_and_unknown_types_have_no_view(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    index = model.add_tensor("w4", [4], "INT4", values=np.array([0x21, 0x43], np.uint8))
    assert model.is_constant(index)
    assert model.constant(index) is None
    model.tensors[index].type = 99
    assert model.type_name(index) == "UNKNOWN"
    assert model.constant(index) is None


def test_quantization_is_read_back_as_it_was_set(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    assert model.quantization(0) is None
    scales = np.array([0.5, 0.25], np.float32)
    index = model.add_tensor(
        "q", [2, 3], "INT8", quantization=Quantization(scales, np.zeros(2, np.int64), axis=0)
    )
    again = model.copy().quantization(index)
    assert again is not None
    assert again.scale.tolist() == [0.5, 0.25]
    assert again.zero_point.tolist() == [0, 0]
    assert again.is_per_channel


def test_scales_without_zero_points_have_zeros(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.set_quantization(0, Quantization(np.ones(1, np.float32), np.zeros(1, np.int64)))
    model.tensors[0].quantization.zeroPoint = None
    quantization = model.quantization(0)
    assert quantization is not None
    assert quantization.zero_point.tolist() == [0]


def test_an_appended_op_with_a_new_opcode_loads_and_runs(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    shift = model.add_tensor("shift", [1], "FLOAT32", values=np.array([1.0], np.float32))
    shifted = model.add_tensor("shifted", [1, 4], "FLOAT32", shape_signature=[-1, 4])
    model.operators.append(model.make_operator("ADD", 1, [model.outputs[0], shift], [shifted]))
    model.graph.outputs = np.array([*model.outputs, shifted], np.int32)
    edited = Model.from_bytes(model.to_bytes())
    check_structure(edited)
    result = Runner(edited.to_bytes()).run(tiny.tiny_inputs())
    np.testing.assert_allclose(result["shifted"], result["scores"] + 1, rtol=1e-6)


def test_an_opcode_is_added_once_for_each_version(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    count = len(model.proto.operatorCodes)
    assert model.opcode_index("CONV_2D", 1) < count
    first, second = model.opcode_index("CONV_2D", 3), model.opcode_index("QUANTIZE", 1)
    assert (first, second) == (count, count + 1)
    assert model.opcode_index("CONV_2D", 3) == first


def test_opcodes_above_127_keep_their_name(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.operators[-1].opcodeIndex = model.opcode_index("GELU", 1)
    code = model.proto.operatorCodes[-1]
    assert (code.builtinCode, code.deprecatedBuiltinCode) == (150, 127)
    assert model.copy().op_name(model.copy().operators[-1]) == "GELU"


def test_ops_that_the_schema_does_not_name_are_named_by_what_the_file_says(
    tiny_model_bytes: bytes,
) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    operator = model.operators[-1]
    operator.opcodeIndex = model.opcode_index("CUSTOM", 1)
    model.proto.operatorCodes[-1].customCode = b"TFLite_Detection_PostProcess"
    assert model.op_name(operator) == "CUSTOM:TFLite_Detection_PostProcess"
    model.proto.operatorCodes[-1].builtinCode = 99_999
    assert model.op_name(operator) == "UNKNOWN_99999"


@pytest.mark.parametrize("content", [b"", b"TFL3", b"version https://git-lfs", b"\0" * 100])
def test_what_is_no_tflite_file_is_refused_with_its_first_bytes(content: bytes) -> None:
    with pytest.raises(StructureError, match="TFL3") as caught:
        Model.from_bytes(content)
    assert repr(content[:8]) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("part", ["subgraphs", "operatorCodes", "buffers"])
def test_a_flatbuffer_without_a_graph_is_refused(tiny_model_bytes: bytes, part: str) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    setattr(model.proto, part, [])
    with pytest.raises(StructureError, match="holds no graph"):
        Model.from_bytes(model.to_bytes())


def test_ops_can_be_appended_to_a_graph_without_any() -> None:
    model = tiny.empty_model()
    model.graph.operators = None
    model.operators.append("op")
    assert model.operators == ["op"]


def test_text_is_read_from_bytes_and_nothing() -> None:
    assert (text(None), text("s"), text(b"b"), text(b"\xff")) == ("", "s", "b", "�")
    assert indices(None) == []


def chain(length: int) -> Model:
    """A model of many ops, for what must not grow with the square of their number."""
    g = tiny.GraphBuilder({"x": (1, 4)})
    x = g.inputs[0]
    for position in range(length):
        x = g.op("RELU", [x], (f"t{position}", (1, 4)))
    return g.finish(x)


def test_two_thousand_ops_are_read_checked_and_named_within_a_second() -> None:
    content = chain(2000).to_bytes()
    start = time.process_time()
    model = Model.from_bytes(content)
    check_structure(model)
    assert len(model.names()) == 2001
    assert len(model.producers()) == 2000
    assert time.process_time() - start < 1.5  # 0.1 s measured; the square would be 6 s
