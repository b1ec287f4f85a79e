"""ModelInferRequest -> InferRequest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeq.errors import InvalidRequestError
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.grpc.request_message import CONTENTS, read_infer
from edgeq.serve.requests import InferRequest, RegionSlice
from edgeq.serve.tensors import DTYPES
from edgeq.tflite.runtime import TensorSpec

REQUEST = Messages()["ModelInferRequest"]


def no_region(_: RegionSlice) -> memoryview:
    raise AssertionError("no region is named")


def read(message: Message, specs: tuple[TensorSpec, ...] = (), **options: Any) -> InferRequest:
    region = options.pop("region", no_region)
    return read_infer(message, specs, (), region, options.pop("time_left_s", None))


def one(datatype: str = "FP32", shape: tuple[int, ...] = (2,), **contents: Any) -> Message:
    message = REQUEST()
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    if contents:
        tensor.contents.SetInParent()
        for field, values in contents.items():
            getattr(tensor.contents, field).extend(values)
    return message


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_contents_carry_every_datatype(datatype: str) -> None:
    values = np.array([[0], [1]], DTYPES[datatype])
    message = one(datatype, (2, 1))
    message.raw_input_contents.append(values.tobytes())
    found = read(message).inputs["x"]
    assert (found.dtype, found.shape) == (values.dtype, (2, 1))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("datatype", CONTENTS)
def test_typed_contents_carry_every_datatype_that_has_a_field(datatype: str) -> None:
    dtype = DTYPES[datatype]
    kind = np.iinfo(dtype) if dtype.kind in "iu" else None
    values = [kind.min, kind.max] if kind else [False, True] if dtype.kind == "b" else [-1.5, 2]
    found = read(one(datatype, (1, 2), **{CONTENTS[datatype]: values})).inputs["x"]
    assert (found.dtype, found.shape) == (dtype, (1, 2))
    assert found.tolist() == [values]


def test_nan_travels_in_typed_contents() -> None:
    found = read(one(fp32_contents=[float("nan"), float("inf")])).inputs["x"]
    assert np.isnan(found[0])
    assert np.isinf(found[1])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (REQUEST(), "the request has no inputs"),
        (one(), "has no contents; fp32_contents is expected"),
        (one(fp64_contents=[1, 2]), "FP32 has fp64_contents; fp32_contents is expected"),
        (one(fp32_contents=[1, 2], bool_contents=[True]), "has bool_contents and fp32_contents"),
        (one(fp32_contents=[1, 2, 3]), r"has 3 values; shape \[2\] takes 2"),
        (one("INT8", int_contents=[1, 128]), "holds a value beyond what INT8 can"),
        (one("UINT16", uint_contents=[1, 65536]), "holds a value beyond what UINT16 can"),
        (one("FP16", fp32_contents=[1, 2]), "FP16, which only raw_input_contents can carry"),
        (one("BYTES", bytes_contents=[b"a", b"b"]), "BYTES; models here take numbers only"),
        (one("FP8"), "has datatype 'FP8'; one of BOOL"),
        (one(shape=(0,)), r"has shape \[0\]"),
        (one(shape=(-1,)), r"has shape \[-1\]"),
        (one(shape=(1 << 40, 1 << 40)), "has shape"),
    ],
)
def test_a_wrong_input_is_refused(message: Message, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        read(message)


def with_raw(*contents: bytes) -> Message:
    message = one()
    message.raw_input_contents.extend(contents)
    return message


def with_both() -> Message:
    message = one(fp32_contents=[1, 2])
    message.raw_input_contents.append(bytes(8))
    return message


def with_twice(field: str) -> Message:
    message = with_raw(bytes(8))
    for _ in range(2):
        getattr(message, field).add(name="y")
    return message


def with_parameter(where: Callable[[Message], Message], name: str, **value: Any) -> Message:
    message = with_raw(bytes(8))
    message.outputs.add(name="y")
    for field, content in value.items():
        setattr(where(message).parameters[name], field, content)
    return message


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (with_raw(bytes(7)), r"has 7 bytes; FP32 of shape \[2\] takes 8"),
        (with_raw(bytes(8), b""), "raw_input_contents has 1 more than the inputs"),
        (with_both(), "has contents beside raw_input_contents"),
        (with_twice("outputs"), "'y' is in outputs twice"),
        (with_twice("inputs"), "input 'y' has datatype ''"),
        (
            with_parameter(lambda m: m, "timeout", string_param="soon"),
            "the request has timeout 'soon'",
        ),
        (with_parameter(lambda m: m, "priority", int64_param=-1), "the request has priority -1"),
        (
            with_parameter(lambda m: m.outputs[0], "classification", bool_param=True),
            "output 'y' has classification True",
        ),
        (
            with_parameter(lambda m: m.inputs[0], "shared_memory_region", int64_param=1),
            "input 'x' has shared_memory_region 1",
        ),
        (
            with_parameter(lambda m: m.inputs[0], "shared_memory_region", string_param="r"),
            "no shared_memory_byte_size",
        ),
    ],
)
def test_a_wrong_request_is_refused(message: Message, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        read(message)


def test_an_input_without_its_raw_contents_is_refused() -> None:
    message = with_raw(bytes(8))
    message.inputs.add(name="b", datatype="FP32", shape=[1])
    with pytest.raises(InvalidRequestError, match="input 'b' has no entry in raw_input_contents"):
        read(message)


def in_region(size: int) -> Message:
    message = one()
    parameters = message.inputs[0].parameters
    parameters["shared_memory_region"].string_param = "r"
    parameters["shared_memory_byte_size"].int64_param = size
    parameters["shared_memory_offset"].int64_param = 4
    return message


def test_shared_memory_and_raw_contents_go_together() -> None:
    places = []

    def region(place: RegionSlice) -> memoryview:
        places.append(place)
        return memoryview(np.array([1, 2], np.float32).tobytes())

    message = in_region(8)
    message.inputs.add(name="b", datatype="UINT8", shape=[1])
    message.raw_input_contents.append(b"\x07")
    found = read(message, region=region).inputs
    assert (found["x"].tolist(), found["b"].tolist()) == ([1, 2], [7])
    assert places == [RegionSlice("r", 4, 8)]


def test_a_region_is_not_read_for_a_tensor_of_another_size() -> None:
    with pytest.raises(InvalidRequestError, match="has 9 bytes"):
        read(in_region(9))


def test_contents_beside_a_region_are_refused() -> None:
    message = in_region(8)
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    with pytest.raises(InvalidRequestError, match="contents beside shared_memory_region"):
        read(message)


@pytest.mark.parametrize(
    ("asked_us", "left_s", "expected"),
    [(0, None, None), (500, None, 5e-4), (0, 2.0, 2.0), (3_000_000, 2.0, 2.0), (5, 0.0, 1e-6)],
)
def test_the_sooner_of_timeout_and_deadline_counts(
    asked_us: int, left_s: float | None, expected: float | None
) -> None:
    message = with_raw(bytes(8))
    message.parameters["timeout"].int64_param = asked_us
    assert read(message, time_left_s=left_s).timeout_s == expected


def test_a_parameter_without_a_value_is_absent() -> None:
    message = with_raw(bytes(8))
    message.parameters["priority"].SetInParent()
    message.parameters["unheard"].double_param = 1.5
    assert read(message).priority == 0


def test_the_model_decides_what_is_taken() -> None:
    spec = TensorSpec("x", (3,), np.dtype(np.float32))
    with pytest.raises(InvalidRequestError, match=r"has shape \[2\]; the model takes \[3\]"):
        read(with_raw(bytes(8)), (spec,))
