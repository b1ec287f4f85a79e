"""Damage is told by a StructureError, quickly, and what passes does not kill the interpreter."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
import pytest

from edgeq.errors import StructureError, UnsupportedModelError
from edgeq.tflite.model import Model, Quantization
from edgeq.tflite.schema import schema
from edgeq.tflite.structure import MAX_RANK, check_structure
from tests import tiny
from tests.tflite.damage import damaged

SLOWEST_S = 2.0  # of the CPU, for one damaged file; 0.1 s is the slowest seen
MOST_ELEMENTS = 1 << 24  # of a tensor: an input made 1 GiB wide took 18 s to load, and told nothing


def _survivors(content: bytes, count: int, seed: int) -> tuple[list[bytes], Counter[str]]:
    """Return the damaged files that pass, and how many were refused by which message."""
    passed: list[bytes] = []
    refused: Counter[str] = Counter()
    for file in damaged(content, count, seed):
        start = time.process_time()
        try:
            check_structure(Model.from_bytes(file))
            passed.append(file)
        except (StructureError, UnsupportedModelError) as error:
            refused[type(error).__name__] += 1
        assert time.process_time() - start < SLOWEST_S
    return passed, refused


def _is_quick(content: bytes) -> bool:
    model = Model.from_bytes(content)
    return all(math.prod(model.shape(i)) <= MOST_ELEMENTS for i in range(len(model.tensors)))


def _load_in_a_child(files: list[bytes], folder: Path) -> subprocess.CompletedProcess[str]:
    for index, file in enumerate(filter(_is_quick, files)):
        (folder / f"{index:04d}.tflite").write_bytes(file)
    script = Path(__file__).with_name("load_all.py")
    return subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False
    )


def test_damage_to_the_tiny_model_is_refused_or_harmless(
    tiny_model_bytes: bytes, tmp_path: Path
) -> None:
    passed, refused = _survivors(tiny_model_bytes, 1200, seed=1)
    assert sum(refused.values()) > 900
    child = _load_in_a_child(passed, tmp_path)
    assert child.returncode == 0, child.stdout[-200:]


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["models/resnet8_cifar10_fp32", "models/vww96_fp32", "reference/kws_dscnn_int8_ref"]
)
def test_damage_to_a_real_model_is_refused_or_harmless(
    shared: Path, name: str, tmp_path: Path
) -> None:
    content = (shared / "data" / f"{name}.tflite").read_bytes()
    passed, refused = _survivors(content, 300, seed=2)
    assert sum(refused.values()) > 150
    child = _load_in_a_child(passed, tmp_path)
    assert child.returncode == 0, child.stdout[-200:]


@pytest.mark.shared
def test_every_file_that_people_drop_by_mistake_is_refused_or_read(shared: Path) -> None:
    for path in sorted((shared / "data" / "traps").iterdir()):
        if path.stat().st_size < 200:
            with pytest.raises(StructureError):
                Model.read(path)
        else:
            check_structure(Model.read(path))


def test_a_list_of_one_table_named_many_times_is_refused_quickly() -> None:
    """A bomb of 2 MB: 250,000 times one graph of 250,000 times one tensor."""
    builder = flatbuffers.Builder(1 << 22)
    tensor = _table(builder)
    graph = _table(builder, _repeated(builder, tensor, 250_000))
    root = _table(builder, None, None, _repeated(builder, graph, 250_000))
    builder.Finish(root, b"TFL3")
    start = time.process_time()
    with pytest.raises(StructureError, match="more than 200000 tables"):
        Model.from_bytes(bytes(builder.Output()))
    assert time.process_time() - start < 10


def test_one_long_name_given_to_many_tensors_is_refused() -> None:
    """A bomb of 1 MB: 10,000 tensors that share one name of 1 MB would unpack to 10 GB."""
    builder = flatbuffers.Builder(1 << 21)
    name = builder.CreateString("x" * (1 << 20))
    tensors = [_table(builder, None, None, None, name) for _ in range(10_000)]
    builder.StartVector(4, len(tensors), 4)
    for tensor in tensors:
        builder.PrependUOffsetTRelative(tensor)
    graphs = _repeated(builder, _table(builder, builder.EndVector()), 1)
    builder.Finish(_table(builder, None, None, graphs), b"TFL3")
    with pytest.raises(StructureError, match="refers to more than"):
        Model.from_bytes(bytes(builder.Output()))


def _table(builder: flatbuffers.Builder, *offsets: int | None) -> int:
    builder.StartObject(len(offsets))
    for slot, offset in enumerate(offsets):
        if offset is not None:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _repeated(builder: flatbuffers.Builder, target: int, count: int) -> int:
    builder.Prep(4, 0)
    last = builder.Offset() - target + 4  # each of them is relative to where it stands
    offsets = last + 4 * np.arange(count, dtype=np.uint32)[::-1]
    return int(builder.CreateNumpyVector(offsets))


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_a_file_cut_anywhere_is_refused(one_op_model_bytes: bytes, length: int) -> None:
    with pytest.raises(StructureError) as caught:
        Model.from_bytes(one_op_model_bytes[: min(length, len(one_op_model_bytes) - 1)])
    assert caught.value.hint


# ---- each rule about the graph, broken by one edit


def _tensor(index: int, **fields: object) -> Callable[[Model], None]:
    return lambda model: vars(model.tensors[index]).update(fields)


def _op(index: int, **fields: object) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        for name, value in fields.items():
            setattr(model.operators[index], name, value)

    return edit


def _graph(**fields: object) -> Callable[[Model], None]:
    return lambda model: vars(model.graph).update(fields)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


CONV_WEIGHTS, CONV_OUT = 1, 3  # tensor indices in the tiny model

RULES: list[tuple[str, Callable[[Model], None]]] = [
    ("a graph has no tensors", _graph(tensors=[])),
    ("tensor 0 names buffer 99; the file has", _tensor(0, buffer=99)),
    (r"impossible shape \[1, -8, 8, 3\]", _tensor(0, shape=_ints(1, -8, 8, 3))),
    ("impossible shape", _tensor(0, shape=_ints(1 << 20, 1 << 20))),
    (f"has {MAX_RANK + 1} dimensions", _tensor(0, shape=_ints(*[1] * (MAX_RANK + 1)))),
    (f"has {MAX_RANK + 1} dimensions", _tensor(0, shapeSignature=_ints(*[1] * (MAX_RANK + 1)))),
    ("which is not UTF-8", _tensor(0, name=b"\xff")),
    ("unknown type 77", _tensor(0, type=77)),
    ("holds 648 bytes; its shape needs 652", _tensor(CONV_WEIGHTS, shape=_ints(163))),
    ("input is tensor 99", _graph(inputs=_ints(99))),
    ("output is tensor -1", _graph(outputs=_ints(-1))),
    ("has 0 inputs and 1 outputs", lambda m: _without_inputs(m)),
    ("has 1 inputs and 0 outputs", _graph(outputs=None)),
    ("op 0 names operator code 99 of", _op(0, opcodeIndex=99)),
    ("op 0 reads tensor -2", _op(0, inputs=_ints(-2, 1, 2))),
    ("op 0 reads tensor 99", _op(0, inputs=_ints(0, 1, 99))),
    ("op 0 reads tensor 14 before it is written", _op(0, inputs=_ints(14, 1, 2))),
    (r"op 0 \(CONV_2D\) has no input 1", _op(0, inputs=_ints(0, -1, 2))),
    (r"op 1 \(RELU\) has no input 0", _op(1, inputs=_ints(-1))),
    ("op 0 writes tensor -1", _op(0, outputs=_ints(-1))),
    ("op 0 keeps tensor 99", _op(0, intermediates=_ints(99))),
    ("op 1 writes tensor 3, which has its values already", _op(1, outputs=_ints(CONV_OUT))),
    ("op 0 writes tensor 1, which has its", _op(0, outputs=_ints(CONV_WEIGHTS))),
    ("output, tensor 14, is written by no op", lambda m: m.operators.pop() and None),
]


def _without_inputs(model: Model) -> None:
    model.graph.inputs = None
    model.tensors[0].isVariable = True  # so that the op that reads it is not the complaint


@pytest.mark.parametrize(("message", "edit"), RULES, ids=[message for message, _ in RULES])
def test_a_broken_rule_is_named(
    tiny_model_bytes: bytes, message: str, edit: Callable[[Model], None]
) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    check_structure(model)
    edit(model)
    with pytest.raises(StructureError, match=message) as caught:
        check_structure(model)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("scales", "zero_points", "axis", "message"),
    [
        (6, 6, 0, ""),
        (6, 1, 0, ""),
        (1, 1, 9, ""),  # one scale for all: the dimension means nothing
        (6, 2, 0, "6 scales and 2 zero points"),
        (6, 6, 4, "6 scales along dimension 4"),
        (6, 6, -1, "6 scales along dimension -1"),
        (5, 5, 0, "5 scales along dimension 0"),
    ],
)
def test_scales_fit_their_dimension(
    tiny_model_bytes: bytes, scales: int, zero_points: int, axis: int, message: str
) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    scale, zero_point = np.ones(scales, np.float32), np.zeros(zero_points, np.int64)
    model.set_quantization(CONV_WEIGHTS, Quantization(scale, zero_point, axis))
    if not message:
        check_structure(model)
        return
    with pytest.raises(StructureError, match=message):
        check_structure(model)


def test_optional_inputs_and_empty_constants_may_stay_unwritten(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    empty = model.add_tensor("empty", [0], "INT32")
    model.operators[0].inputs = _ints(0, CONV_WEIGHTS, -1)
    model.operators[1].inputs = _ints(CONV_OUT, empty)
    check_structure(model)


def test_a_custom_op_may_leave_out_what_it_likes(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    model.operators[1].opcodeIndex = model.opcode_index("CUSTOM", 1)
    model.operators[1].inputs = _ints(-1, CONV_OUT)
    check_structure(model)


def test_packed_int4_constants_are_two_to_a_byte(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    index = model.add_tensor("w4", [3], "INT4", values=np.zeros(2, np.uint8))
    check_structure(model)
    model.tensors[index].shape = _ints(5)
    with pytest.raises(StructureError, match="holds 2 bytes; its shape needs 3"):
        check_structure(model)


def test_constants_outside_the_flatbuffer_are_not_supported(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    buffer = model.proto.buffers[model.tensors[CONV_WEIGHTS].buffer]
    buffer.data, buffer.offset, buffer.size = None, 4096, 648
    with pytest.raises(UnsupportedModelError, match="outside the flatbuffer"):
        check_structure(model)


def _with_call(model: Model, caller: int, callee: int) -> None:
    """Add a CALL_ONCE to subgraph `caller`; subgraph 1 is a copy of the first."""
    if len(model.proto.subgraphs) == 1:
        model.proto.subgraphs.append(model.copy().graph)
    graph = model.subgraphs()[caller]
    operator = graph.make_operator("CALL_ONCE", 1, [], [])
    operator.builtinOptionsType = schema.BuiltinOptions.CallOnceOptions
    operator.builtinOptions = schema.CallOnceOptionsT()
    operator.builtinOptions.initSubgraphIndex = callee
    graph.operators.append(operator)


def test_a_subgraph_may_call_another_but_not_itself(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    _with_call(model, 0, 1)
    check_structure(model)
    _with_call(model, 1, 0)
    with pytest.raises(StructureError, match="calls itself"):
        check_structure(model)


def test_a_call_of_no_subgraph_is_refused(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    _with_call(model, 0, 2)
    with pytest.raises(StructureError, match="subgraph 0 calls subgraph 2; there are 2"):
        check_structure(model)


def test_every_subgraph_is_checked(tiny_model_bytes: bytes) -> None:
    model = Model.from_bytes(tiny_model_bytes)
    _with_call(model, 0, 1)
    model.proto.subgraphs[1].operators[0].opcodeIndex = 99
    with pytest.raises(StructureError, match="names operator code 99"):
        check_structure(model)


def _metadata(model: Model, buffer: int) -> None:
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"min_runtime_version", buffer
    model.proto.metadata = [entry]


def _signature(model: Model, subgraph: int, tensor: int) -> None:
    entry, signature = schema.TensorMapT(), schema.SignatureDefT()
    entry.name, entry.tensorIndex = b"x", tensor
    signature.signatureKey, signature.subgraphIndex = b"serving_default", subgraph
    signature.inputs, signature.outputs = [entry], [entry]
    model.proto.signatureDefs = [signature]


@pytest.mark.parametrize("buffer", [77_777, (1 << 32) - 1])
def test_metadata_outside_the_buffers_are_damage(buffer: int) -> None:
    model = tiny.tiny_model()
    _metadata(model, buffer)
    with pytest.raises(StructureError, match=f"metadata names buffer {buffer}; the file has"):
        check_structure(Model.from_bytes(model.to_bytes()))


def test_old_metadata_outside_the_buffers_are_damage() -> None:
    model = tiny.tiny_model()
    model.proto.metadataBuffer = np.array([0, -5], np.int32)
    with pytest.raises(StructureError, match="metadata names buffer -5"):
        check_structure(Model.from_bytes(model.to_bytes()))


@pytest.mark.parametrize(
    ("subgraph", "tensor", "what"),
    [(1, 0, "subgraph 1; there are 1"), (0, 999, "tensor 999; there are")],
)
def test_a_signature_of_nothing_is_damage(subgraph: int, tensor: int, what: str) -> None:
    model = tiny.tiny_model()
    _signature(model, subgraph, tensor)
    with pytest.raises(StructureError, match=f"a signature names {what}"):
        check_structure(Model.from_bytes(model.to_bytes()))


def test_metadata_and_a_signature_that_lead_somewhere_pass() -> None:
    model = tiny.tiny_model()
    _metadata(model, 1)
    _signature(model, 0, model.inputs[0])
    check_structure(Model.from_bytes(model.to_bytes()))


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_damage(scale: float) -> None:
    model = tiny.tiny_model()
    quantization = Quantization(np.array([scale], np.float32), np.zeros(1, np.int64))
    model.set_quantization(model.inputs[0], quantization)
    with pytest.raises(StructureError, match="scale that is no number"):
        check_structure(model)


def test_a_file_beyond_a_flatbuffer_s_reach_is_refused_before_it_is_read() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return 1 << 31

    with pytest.raises(StructureError, match="2147483648 bytes; a flatbuffer ends at 2147483647"):
        Model.from_bytes(Long(tiny.tiny_model().to_bytes()))
