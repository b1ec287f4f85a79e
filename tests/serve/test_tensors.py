from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.serve import tensors

dtypes = st.sampled_from(sorted(tensors.DTYPES.items()))
shapes = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, *, finite: bool = False) -> np.ndarray:
    dtype = draw(dtypes)[1]
    elements: dict[str, Any] = {}
    if finite and dtype.kind == "f":
        elements = {"elements": {"allow_nan": False, "allow_infinity": False}}
    return draw(hnp.arrays(dtype, draw(shapes), **elements))


@settings(deadline=None)
@given(arrays())
def test_bytes_of_an_array_give_the_array_back(array: np.ndarray) -> None:
    content = memoryview(tensors.to_binary("y", array).tobytes())
    back = tensors.from_binary("x", content, array.dtype, array.shape)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@settings(deadline=None)
@given(arrays(finite=True), st.booleans())
def test_json_of_an_array_gives_the_array_back(array: np.ndarray, nested: bool) -> None:
    values = array.tolist() if nested and array.ndim else tensors.to_json("y", array)
    back = tensors.from_json("x", json.loads(json.dumps(values)), array.dtype, array.shape)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_binary_tensors_are_views_of_the_body() -> None:
    body = bytes(range(12))
    array = tensors.from_binary("x", memoryview(body)[4:], np.dtype("<f4"), (2,))
    assert not array.flags.owndata
    assert not array.flags.writeable
    start = np.frombuffer(body, np.uint8).__array_interface__["data"][0]
    assert array.__array_interface__["data"][0] == start + 4


def test_contiguous_outputs_are_sent_without_a_copy() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.shares_memory(tensors.to_binary("y", array), array)
    assert bytes(tensors.to_binary("y", array.T)) == array.T.tobytes()


@pytest.mark.parametrize("datatype", ["BF16", "BYTES", "fp32", "", None, 7, ["FP32"], {}])
def test_an_unknown_datatype_is_refused(datatype: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"input 'x' has datatype .*; one of BOOL, UINT8"):
        tensors.dtype_of("x", datatype)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, "has shape None; a list of at most 32 integers from 1"),
        ("3", "has shape '3'"),
        ([1.0], "a list of at most 32 integers from 1"),
        ([True], "a list of at most 32 integers from 1"),
        ([-1, 4], "has shape .*integers from 1"),
        ([0], "integers from 1"),
        ([1 << 31], "integers from 1"),
        ([1] * 33, "at most 32 integers"),
        ([10**40], "integers from 1"),
    ],
)
def test_a_senseless_shape_is_refused(shape: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        tensors.check_shape("x", shape)


@pytest.mark.parametrize(
    ("data", "datatype", "message"),
    [
        ([1, 2, 3], "FP32", "has 3 values; shape .2, 2. takes 4"),
        ([], "FP32", "has 0 values"),
        (5, "FP32", "has data 5; a list"),
        ({"0": 1}, "FP32", "a list is taken"),
        ([1, 2, 3, "4"], "FP32", "holds a string; FP32 is expected"),
        ([1, 2, 3, None], "FP32", "holds null"),
        ([1, 2, 3, True], "FP32", "holds a boolean"),
        ([1, 2, 3, [4]], "FP32", "holds an array"),
        ([1, 2, 3, {}], "FP32", "holds an object"),
        ([1, 2, 3, 4.5], "INT8", "holds a fraction; INT8 is expected"),
        ([1, 0, 1, 0], "BOOL", "holds an integer; BOOL is expected"),
        ([1, 2, 3, 128], "INT8", "beyond what INT8 can"),
        ([1, 2, 3, -1], "UINT8", "beyond what UINT8 can"),
        ([1, 2, 3, -1], "UINT64", "beyond what UINT64 can"),
        ([1, 2, 3, 1 << 64], "UINT64", "beyond what UINT64 can"),
        ([1, 2, 3, 1 << 63], "INT64", "beyond what INT64 can"),
        ([1, 2, 3, 1e39], "FP32", "beyond what FP32 can"),
        ([1, 2, 3, 70000], "FP16", "beyond what FP16 can"),
        ([1, 2, 3, 10**400], "FP64", "beyond what FP64 can"),
        ([[1, 2], [3]], "FP32", "has .3. nested at axis 1; .* takes a list of 2 there"),
        ([[1, 2, 3, 4]], "FP32", "nested at axis 0; .* a list of 2"),
        ([[1, 2], 3], "FP32", "has 3 nested at axis 1"),
        ([[[1], [2]], [[3], [4]]], "FP32", "holds an array"),
    ],
)
def test_json_data_that_does_not_fit_is_refused(data: Any, datatype: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        tensors.from_json("x", data, tensors.DTYPES[datatype], (2, 2))


def test_the_ends_of_every_integer_type_are_taken() -> None:
    for datatype, dtype in tensors.DTYPES.items():
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = [int(limits.min), int(limits.max), 1]
            back = tensors.from_json("x", values, dtype, (3,))
            assert back.tolist() == values, datatype


def test_wide_text_in_a_list_of_numbers_costs_no_memory() -> None:
    data = ["a" * 1_000_000, *[1] * 100_000]  # numpy would make 400 GB of text of it
    with pytest.raises(InvalidRequestError, match="holds a string"):
        tensors.from_json("x", data, tensors.DTYPES["FP32"], (100_001,))


def test_bytes_that_are_no_booleans_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="not 0, 1"):
        tensors.from_binary("x", memoryview(b"\0\1\2"), np.dtype("?"), (3,))


def test_the_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"has 7 bytes; FP32 of shape .2. takes 8"):
        tensors.from_binary("x", memoryview(bytes(7)), np.dtype("<f4"), (2,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_json_cannot_hold_says_so(value: float) -> None:
    with pytest.raises(EngineError, match="'y' holds NaN or infinity"):
        tensors.to_json("y", np.array([1, value], np.float32))


def test_an_output_without_a_datatype_says_so() -> None:
    strange = np.zeros(2, np.complex64)
    for send in (tensors.to_json, tensors.to_binary):
        with pytest.raises(EngineError, match="type complex64"):
            send("y", strange)
    with pytest.raises(EngineError, match="type complex64"):
        tensors.classify("y", strange, 1)
    assert tensors.datatype_of(strange.dtype) == "COMPLEX64"
    assert tensors.datatype_of(np.dtype("O")) == "BYTES"


def test_classes_are_the_highest_scores_of_each_row() -> None:
    scores = np.array([[0.25, 0.5, 0.125], [3, 1, 2]], np.float32)
    shape, classes = tensors.classify("y", scores, 2)
    assert shape == [2, 2]
    assert classes == ["0.500000:1", "0.250000:0", "3.000000:0", "2.000000:2"]


@pytest.mark.parametrize(
    ("array", "shape", "first"),
    [
        (np.array([5, 9], np.uint8), [2], "9:1"),
        (np.array(4, np.int32), [1], "4:0"),
        (np.array([-128, 127], np.int8), [2], "127:1"),
    ],
)
def test_a_single_row_of_classes_has_one_axis(
    array: np.ndarray, shape: list[int], first: str
) -> None:
    got_shape, classes = tensors.classify("y", array, 99)
    assert got_shape == shape
    assert classes[0] == first


def test_no_scores_have_no_classes() -> None:
    assert tensors.classify("y", np.zeros((0, 3), np.float32), 2) == ([0, 0], [])
